//! Lying bars with their name on the left and their figure on the right.
//!
//! Owns their places. A bar begins at 0, always; its whisker goes from the smallest to the largest round.

use maud::{Markup, html};

use super::scale::Scale;
use crate::report::format::plain;

const WIDTH: f64 = 600.0;
const ROW: f64 = 28.0;
const THICK: f64 = 16.0;
const TOP: f64 = 6.0;
const BOTTOM: f64 = 24.0;

/// Room for a letter of the plots' font.
pub(super) const LETTER: f64 = 7.2;

/// Longer names end in an ellipsis; the whole one is in the table.
pub(super) const LONGEST: usize = 34;

/// A bar.
pub(super) struct Bar {
    pub(super) label: String,
    /// A class.
    pub(super) colour: &'static str,
    pub(super) mid: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// The figure as it stands beside it.
    pub(super) text: String,
}

/// Some of them on one axis.
pub(super) struct Bars {
    pub(super) title: String,
    pub(super) note: &'static str,
    pub(super) all: Vec<Bar>,
    /// What the axis is divided by, and the unit that it has then.
    pub(super) unit: (f64, &'static str),
}

// === impl Bars ===

impl Bars {
    /// As a figure of the page.
    pub(super) fn draw(&self, id: &str) -> Markup {
        let left = room(self.all.iter().map(|bar| bar.label.as_str()));
        let right = WIDTH - room(self.all.iter().map(|bar| bar.text.as_str()));
        let height = TOP + ROW * count(self.all.len()) + BOTTOM;
        let scale = Scale::from_zero(self.all.iter().map(|bar| bar.high / self.unit.0));
        let words =
            self.all.iter().map(|bar| format!("{} {}", bar.label, bar.text)).collect::<Vec<_>>().join("; ");
        html! {
            figure.plot {
                figcaption { b { (self.title) } " " span.note { (self.note) } }
                svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-labelledby={ (id) "-t " (id) "-d" } {
                    title id={ (id) "-t" } { (self.title) }
                    desc id={ (id) "-d" } { (words) "." }
                    @if let Some(scale) = scale {
                        (self.axis(scale, left, right, height))
                        @for (n, bar) in self.all.iter().enumerate() {
                            (bar.draw(|value| left + (right - left) * scale.at(value / self.unit.0), TOP + ROW * count(n), (left, right)))
                        }
                    }
                }
            }
        }
    }

    fn axis(&self, scale: Scale, left: f64, right: f64, height: f64) -> Markup {
        let at = |tick| place(left + (right - left) * scale.at(tick));
        let write = |tick| format!("{}{}", plain(tick), self.unit.1);
        let ticks = scale.ticks();
        // What would run into its neighbour is left away.
        let widest = ticks.iter().map(|tick| write(*tick).chars().count()).max().unwrap_or(1);
        let room = (right - left) / (count(widest + 2) * LETTER);
        let every =
            [1, 2, 5].into_iter().find(|every| count(ticks.len()) / count(*every) <= room).unwrap_or(10);
        html! {
            @for (n, tick) in ticks.iter().enumerate() {
                line.grid x1=(at(*tick)) x2=(at(*tick)) y1=(TOP) y2=(height - BOTTOM) {}
                @if n.is_multiple_of(every) {
                    text.tick x=(at(*tick)) y=(height - 8.0) text-anchor="middle" { (write(*tick)) }
                }
            }
        }
    }
}

// === impl Bar ===

impl Bar {
    fn draw(&self, at: impl Fn(f64) -> f64, top: f64, (left, right): (f64, f64)) -> Markup {
        let (low, mid, high) = (at(self.low), at(self.mid), at(self.high));
        let middle = top + ROW / 2.0;
        html! {
            text.name x=(place(left - 8.0)) y=(place(middle + 4.5)) text-anchor="end" { (shortened(&self.label)) }
            rect class={ "bar " (self.colour) } x=(place(left)) y=(place(middle - THICK / 2.0))
                width=(place((mid - left).max(1.0))) height=(THICK) rx="2" {}
            @if high - low > 0.5 {
                path.whisker d={
                    "M" (place(low)) " " (place(middle)) "H" (place(high))
                    "M" (place(low)) " " (place(middle - 4.0)) "v8"
                    "M" (place(high)) " " (place(middle - 4.0)) "v8"
                } {}
            }
            text.value x=(place(right + 10.0)) y=(place(middle + 4.5)) { (self.text) }
        }
    }
}

/// For the longest of the texts, and a gap.
pub(super) fn room<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    let longest = texts.map(|text| text.chars().count().min(LONGEST)).max().unwrap_or(0);
    count(longest) * LETTER + 18.0
}

/// With an ellipsis instead of what is too much.
pub(super) fn shortened(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// A coordinate: a tenth of a pixel is enough.
pub(super) fn place(value: f64) -> String {
    format!("{value:.1}")
}

/// Few enough for any number.
pub(super) fn count(things: usize) -> f64 {
    f64::from(u32::try_from(things).unwrap_or(u32::MAX))
}
