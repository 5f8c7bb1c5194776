//! The plots of a scenario, as inline SVG.
//!
//! Owns which plots a scenario gets and what is on them; [`bars`] and [`lines`] draw, [`scale`] places. Colours are
//! classes of the page's style, so that they follow light and dark. None is needed to read a plot: every bar and every
//! line bears its name, lines have marks of their own, and each plot says in words what it shows.

mod bars;
mod lines;
mod scale;

use std::collections::BTreeMap;

use maud::Markup;

use crate::report::format::{self, figure, head, number, plain};
use crate::report::table::{Cell, Key, Row, Table, ends};
use crate::result::{Metric, Sample, ScenarioResult, Second};
use crate::stats;

use bars::{Bar, Bars};
use lines::{Axis, Line, Lines};
use scale::Scale;

/// Drawn as bars wherever they were measured, besides the primary figure.
const AS_BARS: [Metric; 8] = [
    Metric::RequestsPerSecond,
    Metric::EventsPerSecond,
    Metric::CpuPerRequestUs,
    Metric::CpuPerEventUs,
    Metric::BytesPerConnection,
    Metric::RssAfterRatio,
    Metric::ReadySeconds,
    Metric::PropagationP99Ms,
];

/// Where the added latency of streams is drawn.
const ADDED: [Metric; 2] = [Metric::P50Us, Metric::P99Us];

/// From this ratio of the largest to the smallest on, sizes are placed by their logarithm.
const WIDE: f64 = 20.0;

/// Which of the rounds is drawn.
#[derive(Debug, Clone, Copy)]
enum OfRounds {
    Median,
    /// A median would hide what happens in less than half of them.
    Most,
}

/// Those that a reader sees at once. `id` is of the scenario, and makes theirs.
pub(super) fn plots(scenario: &ScenarioResult, table: &Table<'_>, id: &str) -> Vec<Markup> {
    let mut plots = Vec::new();
    let mut next = {
        let mut n = 0;
        move || {
            n += 1;
            format!("{id}-plot-{n}")
        }
    };
    let others = AS_BARS.into_iter().filter(|metric| *metric != scenario.primary);
    for metric in std::iter::once(scenario.primary).chain(others) {
        plots.extend(figure_bars(table, metric).map(|bars| bars.draw(&next())));
    }
    if table.column(Metric::EventsPerSecond).is_some() || table.column(Metric::CpuPerEventUs).is_some() {
        for metric in ADDED {
            plots.extend(added(table, metric).map(|bars| bars.draw(&next())));
        }
    }
    plots.extend(latency(table).map(|lines| lines.draw(&next())));
    let tail = Some(Metric::P99Us).filter(|metric| *metric != scenario.primary);
    for metric in std::iter::once(scenario.primary).chain(tail) {
        plots.extend(growth(table, metric).map(|lines| lines.draw(&next())));
    }
    plots
}

/// Those of every second, for whoever looks closer.
pub(super) fn second_plots(table: &Table<'_>, id: &str) -> Vec<Markup> {
    let completed =
        seconds(table, "Completed per second", OfRounds::Median, |second| whole(second.completed));
    let p99 = seconds(table, "p99 of each second, µs", OfRounds::Median, |second| second.p99_us);
    let failed = seconds(table, "Failed per second", OfRounds::Most, |second| whole(second.failed));
    let any = |lines: &Lines| lines.series.iter().flat_map(|line| &line.points).any(|point| point.1 > 0.0);
    let all = [completed, p99, failed].into_iter().flatten().filter(any).enumerate();
    all.map(|(n, lines)| lines.draw(&format!("{id}-second-{n}"))).collect()
}

fn figure_bars(table: &Table<'_>, metric: Metric) -> Option<Bars> {
    let cells = table.cells(metric).into_iter().filter(|(row, _)| row.key.x.is_none());
    let bar = |(row, cell): (&Row<'_>, Cell)| {
        let mark = if cell.spoiled { " †" } else { "" };
        let ends = format::ends(&figure(metric, cell.min), &figure(metric, cell.max));
        Bar {
            label: format::name(&row.key),
            colour: colour(&row.key),
            mid: cell.median,
            low: cell.min,
            high: cell.max,
            text: format!("{}{ends}{mark}", figure(metric, cell.median)),
        }
    };
    let bars: Vec<_> = cells.map(bar).collect();
    let better = if metric.smaller_is_better() { "less is better" } else { "more is better" };
    let unit = format::unit(metric, bars.iter().map(|bar| bar.high).fold(0.0, f64::max));
    (!bars.is_empty()).then(|| Bars { title: head(metric).to_owned(), note: better, all: bars, unit })
}

/// What a proxy adds to the way without one, within rounds.
fn added(table: &Table<'_>, metric: Metric) -> Option<Bars> {
    let column = table.column(metric)?;
    let direct = table.rows.iter().find(|row| row.key.peer == "direct" && row.cells[column].is_some())?;
    let base = stats::rounds(direct.samples.iter().copied(), metric);
    let bar = |row: &Row<'_>| {
        let of_it = stats::rounds(row.samples.iter().copied(), metric);
        let (through, direct) = stats::paired(&of_it, &base);
        let added: Vec<_> = through.iter().zip(&direct).map(|(through, direct)| through - direct).collect();
        let (low, high) = ends(&added)?;
        let mid = stats::median(&added);
        let text = format!("{}{}", number(mid), format::ends(&number(low), &number(high)));
        Some(Bar { label: format::name(&row.key), colour: colour(&row.key), mid, low, high, text })
    };
    let proxies = table.rows.iter().filter(|row| row.key.peer != "direct" && row.key.x == direct.key.x);
    let bars: Vec<_> = proxies.filter_map(bar).collect();
    let title = format!("Added to direct, {}", head(metric));
    (!bars.is_empty()).then_some(Bars { title, note: "less is better", all: bars, unit: (1.0, "") })
}

/// The samples that no doubt spoils, else all, with the mark for that.
fn believed<'a>(row: &Row<'a>, metric: Metric) -> (Vec<&'a Sample>, &'static str) {
    let is_good = |sample: &&Sample| !sample.doubts.iter().any(|doubt| stats::matters(doubt, metric));
    let good: Vec<_> = row.samples.iter().copied().filter(is_good).collect();
    if good.is_empty() { (row.samples.clone(), " †") } else { (good, "") }
}

/// Latency by quantile, both axes logarithmic: the tail has as much room as the middle.
fn latency(table: &Table<'_>) -> Option<Lines> {
    let rows = table.rows.iter().filter(|row| row.key.x.is_none());
    let series: Vec<_> = rows
        .filter_map(|row| {
            // The slowest of all has no place on this axis; it is 1 in infinitely many.
            let (samples, mark) = believed(row, Metric::P99Us);
            let points = samples.iter().flat_map(|sample| &sample.latency_us);
            let points = points.filter(|(quantile, latency)| (0.0..1.0).contains(quantile) && *latency > 0.0);
            let points = points.map(|(quantile, latency)| (1.0 / (1.0 - quantile), *latency));
            let points = at_places(points, OfRounds::Median);
            (points.len() > 1).then(|| Line::new(&row.key, mark, points))
        })
        .collect();
    let x = Scale::log(series.iter().flat_map(|line| line.points.iter().map(|point| point.0)))?;
    let y = Scale::log(series.iter().flat_map(|line| line.points.iter().map(|point| point.1)))?;
    let quantiles = [
        (2.0, "50 %"),
        (10.0, "90 %"),
        (100.0, "99 %"),
        (1e3, "99.9 %"),
        (1e4, "99.99 %"),
        (1e5, "99.999 %"),
    ];
    let ticks = quantiles.map(|(at, text)| (at, text.to_owned()));
    let ticks = ticks.into_iter().filter(|(at, _)| x.holds(*at)).collect();
    Some(Lines {
        title: "Latency by percentile, µs".to_owned(),
        note: "both axes are logarithmic; lower is better",
        x: Axis { scale: x, ticks, title: "percent of calls that were at least as fast".to_owned() },
        y: Axis::numbers(y, "µs"),
        series,
    })
}

/// A figure over sizes.
fn growth(table: &Table<'_>, metric: Metric) -> Option<Lines> {
    let mut series: Vec<(Key<'_>, Vec<(f64, f64)>)> = Vec::new();
    for (row, cell) in table.cells(metric) {
        let Some(x) = row.key.x else { continue };
        let key = Key { x: None, ..row.key };
        match series.iter_mut().find(|(other, _)| *other == key) {
            Some((_, points)) => points.push((x, cell.median)),
            None => series.push((key, vec![(x, cell.median)])),
        }
    }
    let mut series: Vec<_> = series
        .into_iter()
        .map(|(key, mut points)| {
            points.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
            Line::new(&key, "", points)
        })
        .collect();
    let points = || series.iter().flat_map(|line| line.points.iter().copied());
    let sizes: Vec<_> = points().map(|(x, _)| x).collect();
    let (least, most) = ends(&sizes)?;
    let wide = least > 0.0 && most / least >= WIDE;
    let x = if wide { Scale::log(sizes.iter().copied())? } else { Scale::between(least, most)? };
    let mut ticks: Vec<_> = sizes.clone();
    ticks.sort_unstable_by(f64::total_cmp);
    ticks.dedup();
    let ticks = ticks.into_iter().map(|at| (at, plain(at))).collect();
    let (per, unit) = format::unit(metric, points().map(|(_, y)| y).fold(0.0, f64::max));
    let y = Scale::from_zero(points().map(|(_, y)| y / per))?;
    for line in &mut series {
        line.points.iter_mut().for_each(|(_, y)| *y /= per);
    }
    Some(Lines {
        title: format!("{} by size", head(metric)),
        note: if metric.smaller_is_better() { "lower is better" } else { "higher is better" },
        x: Axis { scale: x, ticks, title: if wide { "size, logarithmic" } else { "size" }.to_owned() },
        y: Axis::of(y, "", |tick| format!("{}{unit}", plain(tick))),
        series,
    })
}

/// A figure over the time of a measurement.
fn seconds(table: &Table<'_>, title: &str, of: OfRounds, figure: impl Fn(&Second) -> f64) -> Option<Lines> {
    let points_of = |sample: &Sample| -> Vec<(f64, f64)> {
        (1_u32..).zip(&sample.seconds).map(|(n, second)| (f64::from(n), figure(second))).collect()
    };
    let line = |row: &Row<'_>| {
        // What fails, or stands still, is what one looks for here.
        let (samples, mark) = match of {
            OfRounds::Median => believed(row, Metric::P99Us),
            OfRounds::Most => (row.samples.clone(), ""),
        };
        let points = at_places(samples.iter().flat_map(|sample| points_of(sample)), of);
        (points.len() > 1).then(|| Line::new(&row.key, mark, points))
    };
    let series: Vec<_> = table.rows.iter().filter_map(line).collect();
    let points = || series.iter().flat_map(|line| line.points.iter().copied());
    let (_, last) = ends(&points().map(|(x, _)| x).collect::<Vec<_>>())?;
    Some(Lines {
        title: title.to_owned(),
        note: of.words(),
        x: Axis::numbers(Scale::between(1.0, last)?, "second of the measurement"),
        y: Axis::numbers(Scale::from_zero(points().map(|(_, y)| y))?, ""),
        series,
    })
}

/// Of the points at one place one, in the order of places.
fn at_places(points: impl Iterator<Item = (f64, f64)>, of: OfRounds) -> Vec<(f64, f64)> {
    // Positive numbers have the order of their bits.
    let mut all: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (x, y) in points {
        all.entry(x.to_bits()).or_default().push(y);
    }
    all.into_iter().map(|(x, y)| (f64::from_bits(x), of.one(&y))).collect()
}

// === impl OfRounds ===

impl OfRounds {
    fn one(self, values: &[f64]) -> f64 {
        match self {
            Self::Median => stats::median(values),
            Self::Most => values.iter().copied().fold(0.0, f64::max),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Median => "the median of the rounds, for each second",
            Self::Most => "the most of any round, for each second",
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "calls of a second are far below 2^52")]
fn whole(count: u64) -> f64 {
    count as f64
}

/// The class that gives the colour.
fn colour(key: &Key<'_>) -> &'static str {
    match key.peer {
        "krypton" => "c-krypton",
        "nginx" => "c-nginx",
        "haproxy" => "c-haproxy",
        "envoy" => "c-envoy",
        "go" => "c-go",
        _ => "c-other",
    }
}
