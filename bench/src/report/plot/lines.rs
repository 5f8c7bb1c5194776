//! Lines over an axis, each with its name at its end.
//!
//! Owns their places, and that names do not lie on each other. Each line has a mark and a dash of its own.

use maud::{Markup, html};

use super::bars::{count, place, room, shortened};
use super::scale::Scale;
use crate::report::format::{self, number, plain};
use crate::report::table::Key;

const WIDTH: f64 = 600.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;
const LEFT: f64 = 68.0;
const LOWEST: f64 = 320.0;

/// Between two names.
const LINE: f64 = 17.0;

const DASHES: [&str; 4] = ["none", "7 4", "2 3", "9 3 2 3"];

/// More points than that are not marked: it is the line that one sees.
const MARKED: usize = 16;

/// A line.
pub(super) struct Line {
    label: String,
    /// A class.
    colour: &'static str,
    /// Rising in x, at least one.
    pub(super) points: Vec<(f64, f64)>,
}

/// One side of the frame.
pub(super) struct Axis {
    pub(super) scale: Scale,
    /// Where, and what is written there.
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) title: String,
}

/// Some lines in one frame.
pub(super) struct Lines {
    pub(super) title: String,
    pub(super) note: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) series: Vec<Line>,
}

/// Where the frame is.
#[derive(Clone, Copy)]
struct Frame {
    right: f64,
    bottom: f64,
    height: f64,
}

// === impl Axis ===

impl Axis {
    /// With round numbers on it.
    pub(super) fn numbers(scale: Scale, title: &str) -> Self {
        Self::of(scale, title, plain)
    }

    /// With round numbers on it, written so.
    pub(super) fn of(scale: Scale, title: &str, write: impl Fn(f64) -> String) -> Self {
        let scale = scale.rounded();
        let ticks = scale.ticks().into_iter().map(|tick| (tick, write(tick))).collect();
        Self { scale, ticks, title: title.to_owned() }
    }
}

// === impl Line ===

impl Line {
    pub(super) fn new(key: &Key<'_>, mark: &str, points: Vec<(f64, f64)>) -> Self {
        Self { label: format!("{}{mark}", format::name(key)), colour: super::colour(key), points }
    }

    /// For those who do not see it.
    fn words(&self) -> String {
        let [first, .., last] = self.points.as_slice() else { return self.label.clone() };
        format!("{} from {} to {}", self.label, number(first.1), number(last.1))
    }
}

// === impl Lines ===

impl Lines {
    /// As a figure of the page.
    pub(super) fn draw(&self, id: &str) -> Markup {
        let height = LOWEST.max(TOP + LINE * count(self.series.len()) + BOTTOM);
        let labels = room(self.series.iter().map(|line| line.label.as_str())) + 24.0;
        let frame = Frame { right: WIDTH - labels, bottom: height - BOTTOM, height };
        let words = self.series.iter().map(Line::words).collect::<Vec<_>>().join("; ");
        let ends = self.ends(frame);
        let names = apart(&ends.iter().map(|end| end.1).collect::<Vec<_>>(), frame.bottom);
        html! {
            figure.plot {
                figcaption { b { (self.title) } " " span.note { (self.note) } }
                svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-labelledby={ (id) "-t " (id) "-d" } {
                    title id={ (id) "-t" } { (self.title) }
                    desc id={ (id) "-d" } { (words) "." }
                    (self.frame(frame))
                    @for (n, line) in self.series.iter().enumerate() {
                        (self.line(n, line, frame))
                        path.leader d={
                            "M" (place(ends[n].0 + 5.0)) " " (place(ends[n].1))
                            "L" (place(frame.right + 12.0)) " " (place(names[n]))
                        } {}
                        g class={ "mark " (line.colour) } { (mark(n, frame.right + 20.0, names[n])) }
                        text.name x=(place(frame.right + 30.0)) y=(place(names[n] + 4.5)) { (shortened(&line.label)) }
                    }
                }
            }
        }
    }

    fn frame(&self, frame: Frame) -> Markup {
        let Frame { right, bottom, height } = frame;
        html! {
            @for (tick, text) in &self.y.ticks {
                @let y = place(self.y(*tick, frame));
                line.grid x1=(LEFT) x2=(right) y1=(y) y2=(y) {}
                text.tick x=(LEFT - 8.0) y=(y) dy="0.35em" text-anchor="end" { (text) }
            }
            @for (tick, text) in &self.x.ticks {
                @let x = place(self.x(*tick, frame));
                line.grid x1=(x) x2=(x) y1=(TOP) y2=(bottom) {}
                text.tick x=(x) y=(place(bottom + 17.0)) text-anchor="middle" { (text) }
            }
            text.tick x=(place(f64::midpoint(LEFT, right))) y=(place(height - 8.0)) text-anchor="middle" {
                (self.x.title)
            }
        }
    }

    fn line(&self, n: usize, line: &Line, frame: Frame) -> Markup {
        let places: Vec<_> =
            line.points.iter().map(|(x, y)| (self.x(*x, frame), self.y(*y, frame))).collect();
        let way =
            places.iter().map(|(x, y)| format!("{} {}", place(*x), place(*y))).collect::<Vec<_>>().join("L");
        html! {
            path class={ "line " (line.colour) } d={ "M" (way) } stroke-dasharray=(DASHES[n % DASHES.len()]) {}
            @if places.len() <= MARKED {
                g class={ "mark " (line.colour) } { @for (x, y) in &places { (mark(n, *x, *y)) } }
            }
        }
    }

    /// The last point of each line.
    fn ends(&self, frame: Frame) -> Vec<(f64, f64)> {
        let last = |line: &Line| line.points.last().copied().unwrap_or_default();
        self.series.iter().map(last).map(|(x, y)| (self.x(x, frame), self.y(y, frame))).collect()
    }

    fn x(&self, value: f64, frame: Frame) -> f64 {
        LEFT + (frame.right - LEFT) * self.x.scale.at(value)
    }

    fn y(&self, value: f64, frame: Frame) -> f64 {
        frame.bottom - (frame.bottom - TOP) * self.y.scale.at(value)
    }
}

/// The mark of the line `n`.
fn mark(n: usize, x: f64, y: f64) -> Markup {
    let at = |dx: f64, dy: f64| format!("{} {}", place(x + dx), place(y + dy));
    html! {
        @match n % 5 {
            0 => circle cx=(place(x)) cy=(place(y)) r="4" {},
            1 => rect x=(place(x - 3.6)) y=(place(y - 3.6)) width="7.2" height="7.2" {},
            2 => path d={ "M" (at(0.0, -4.8)) "L" (at(4.6, 3.6)) "L" (at(-4.6, 3.6)) "Z" } {},
            3 => path d={ "M" (at(0.0, -5.2)) "L" (at(5.2, 0.0)) "L" (at(0.0, 5.2)) "L" (at(-5.2, 0.0)) "Z" } {},
            _ => path d={ "M" (at(0.0, 4.8)) "L" (at(4.6, -3.6)) "L" (at(-4.6, -3.6)) "Z" } {},
        }
    }
}

/// Moves names so far that none lies on another, in the order of where they belong.
fn apart(wanted: &[f64], bottom: f64) -> Vec<f64> {
    let mut order: Vec<_> = (0..wanted.len()).collect();
    order.sort_by(|one, other| wanted[*one].total_cmp(&wanted[*other]));
    let mut places = wanted.to_vec();
    let mut least = TOP;
    for n in &order {
        places[*n] = places[*n].max(least);
        least = places[*n] + LINE;
    }
    let mut most = bottom;
    for n in order.iter().rev() {
        places[*n] = places[*n].min(most);
        most = places[*n] - LINE;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_lie_on_each_other() {
        let places = apart(&[100.0, 100.0, 101.0, 20.0, 300.0, 299.0], 300.0);
        let mut sorted = places.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] >= LINE - 1e-9), "{places:?}");
        assert!(places.iter().all(|place| (TOP..=300.0).contains(place)), "{places:?}");
        assert!((places[3] - 20.0).abs() < 1e-9, "one that is alone stays");
    }
}
