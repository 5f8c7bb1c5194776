//! The summary of a run in Markdown, for a README.
//!
//! Owns what is left when there is room for one table. Names of runs and peers are text: nothing of it becomes markup.

use std::fmt::Write as _;

use super::format::{counted, figure, head, percent, plain, times};
use super::page::day;
use super::page::verdicts::{bound, counts, with_ends};
use super::table::{Cell, KRYPTON, Row, Table};
use crate::result::{RunResult, ScenarioResult};
use crate::stats::{CLAIM_ROUNDS, Verdict, judge};

/// The whole of it.
pub(super) fn summary(result: &RunResult) -> String {
    let tables: Vec<_> = result.scenarios.iter().map(|scenario| (scenario, Table::of(scenario))).collect();
    let mut text = String::new();
    for line in head_lines(result) {
        add(&mut text, &format!("{line}\n"));
    }
    let columns = columns(&tables);
    add(
        &mut text,
        &format!("| | {} |", columns.iter().map(|column| escaped(column)).collect::<Vec<_>>().join(" | ")),
    );
    add(&mut text, &format!("|---|{}", "--:|".repeat(columns.len())));
    for (scenario, table) in &tables {
        add(&mut text, &line(scenario, table, &columns));
    }
    for note in tables.iter().filter_map(|(scenario, _)| notes(scenario)) {
        add(&mut text, &format!("\n{note}"));
    }
    add(&mut text, &format!("\n{}", noise(&tables)));
    if !result.settings.smoke {
        add(&mut text, &format!("\n{}", targets(result)));
    }
    text
}

fn head_lines(result: &RunResult) -> Vec<String> {
    let (machine, settings) = (&result.machine, &result.settings);
    let mut lines = Vec::new();
    if let Some(why) = &result.aborted {
        lines.push(format!("**The run ended early: {}. What follows is not all of it.**", escaped(why)));
    }
    if settings.smoke {
        lines.push("**A smoke run: no figure here says anything about speed.**".to_owned());
    }
    let claim =
        if (settings.rounds as usize) < CLAIM_ROUNDS { ", which is a look and not a claim" } else { "" };
    lines.push(format!(
        "Measured on {} on {} of {}{}, in {} of {} s{claim}. Medians; in brackets how many times Krypton's, with the 95 % interval.",
        escaped(day(&result.started)),
        counted(machine.cores, "core"),
        escaped(&machine.cpu),
        if machine.virtualized { " (a virtual machine)" } else { "" },
        counted(settings.rounds as usize, "paired round"),
        plain(settings.seconds),
    ));
    let missing = result.peers.iter().filter_map(|peer| {
        let why = peer.missing.as_ref()?;
        Some(format!("{} took no part: {}.", escaped(&peer.name), escaped(why.trim_end_matches('.'))))
    });
    lines.extend(missing);
    lines
}

/// The peers, and the gateway once more where it took part in two builds.
fn columns(tables: &[(&ScenarioResult, Table<'_>)]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for row in tables.iter().flat_map(|(_, table)| &table.rows) {
        let column = column(row);
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    columns.sort_by_key(|column| !column.starts_with(KRYPTON));
    columns
}

fn column(row: &Row<'_>) -> String {
    match crate::stats::Build::of(row.key.variant) {
        crate::stats::Build::Pgo => format!("{} pgo", row.key.peer),
        crate::stats::Build::Plain => row.key.peer.to_owned(),
    }
}

fn line(scenario: &ScenarioResult, table: &Table<'_>, columns: &[String]) -> String {
    // Of several sizes the largest: it is where peers are furthest apart.
    let largest = table.rows.iter().filter_map(|row| row.key.x).max_by(f64::total_cmp);
    let at = largest.map(|x| format!(" at {}", plain(x))).unwrap_or_default();
    let mut line = format!("| {}{at}: {} |", escaped(&scenario.title), head(scenario.primary));
    let cells = table.cells(scenario.primary);
    for name in columns {
        // The one as released comes first; of others the first, by its name.
        let mut of_it = cells.iter().filter(|(row, _)| column(row) == *name && row.key.x == largest);
        let plain = of_it.clone().find(|(row, _)| ["", "pgo"].contains(&row.key.variant));
        let text = plain
            .or_else(|| of_it.next())
            .map_or_else(|| "–".to_owned(), |(row, cell)| shown(scenario, row, *cell));
        let done = write!(line, " {text} |");
        done.expect("a string takes all that is written");
    }
    line
}

fn shown(scenario: &ScenarioResult, row: &Row<'_>, cell: Cell) -> String {
    let mut text = figure(scenario.primary, cell.median);
    if cell.spoiled {
        text.push_str(" †");
    }
    if let Some(ratio) = cell.ratio {
        text = format!("{text} [{}]", times(ratio));
    }
    if !["", "pgo"].contains(&row.key.variant) {
        text = format!("{text}, {}", escaped(row.key.variant));
    }
    text
}

/// What a reader has to know of a scenario's figures. A note goes on with the log of who ended: that is for the page.
fn notes(scenario: &ScenarioResult) -> Option<String> {
    let first = |note: &String| note.lines().next().unwrap_or_default().trim_end_matches(':').to_owned();
    let notes: Vec<_> = scenario.notes.iter().map(first).collect();
    (!notes.is_empty()).then(|| format!("{}: {}", escaped(&scenario.title), escaped(&notes.join(" "))))
}

/// How far to trust it.
fn noise(tables: &[(&ScenarioResult, Table<'_>)]) -> String {
    let of = |(scenario, table): &(&ScenarioResult, Table<'_>)| {
        let cells = table.cells(scenario.primary);
        cells.into_iter().filter_map(|(_, cell)| Some(cell.ratio?.noise())).collect::<Vec<_>>()
    };
    let mut noise: Vec<_> = tables.iter().flat_map(of).filter(|noise| noise.is_finite()).collect();
    noise.sort_unstable_by(f64::total_cmp);
    let doubted = tables.iter().map(|(_, table)| table.left_out()).sum::<usize>();
    let left_out = match doubted {
        0 => String::new(),
        _ => format!(
            " {} of a primary figure left out, because something spoiled them (†: nothing else was left).",
            counted(doubted, "sample")
        ),
    };
    let (Some(most), false) = (noise.last(), noise.is_empty()) else {
        return format!("There are too few rounds to say how noisy the machine was.{left_out}");
    };
    let unsigned = |share: f64| percent(share).replace('+', "");
    let middle = unsigned(crate::stats::median(&noise));
    format!(
        "The machine's noise: half of the ratios are good to ± {middle}, the worst to ± {}.{left_out}",
        unsigned(*most)
    )
}

fn targets(result: &RunResult) -> String {
    let claims = judge(result);
    let mut text = counts(&claims);
    let missed = claims.iter().filter(|claim| claim.verdict == Verdict::Missed);
    for claim in missed {
        let measured = claim.measured.map(|measured| with_ends(claim, measured)).unwrap_or_default();
        let bound = bound(claim);
        let (build, what) = (claim.build.title(), claim.target.text);
        let line = format!(
            "
- Missed ({build}): {what}: {measured}, and at most {bound} was the aim."
        );
        text.push_str(&line);
    }
    text.push('\n');
    text
}

fn add(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Text that Markdown and HTML leave alone.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' => escaped.push(' '),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' | '#' | '~' => escaped.extend(['\\', letter]),
            _ => escaped.push(letter),
        }
    }
    escaped
}
