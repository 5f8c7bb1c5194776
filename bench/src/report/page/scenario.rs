//! The section of a scenario: what it is, its table, its plots, its doubts.
//!
//! Owns the order within it.

use maud::{Markup, html};

use crate::report::format::{self, counted, figure, head, range, times};
use crate::report::plot;
use crate::report::table::{Cell, Row, Table};
use crate::result::{Metric, ScenarioResult};

/// The section, with `id` to link to.
pub(super) fn section(scenario: &ScenarioResult, id: &str) -> Markup {
    let table = Table::of(scenario);
    let seconds = plot::second_plots(&table, id);
    let doubts = table.doubts();
    html! {
        section id=(id) {
            h2 { (scenario.title) }
            p.note { code { (scenario.name) } " · " (scenario.load) }
            @if scenario.samples.is_empty() { p { "No measurement: the run ended before, or nobody could take part." } }
            @else { (figures(&table, scenario)) }
            div.plots { @for plot in plot::plots(scenario, &table, id) { (plot) } }
            @if !scenario.notes.is_empty() {
                h3 { "Notes" }
                ul { @for note in &scenario.notes { li { (note) } } }
            }
            @if !doubts.is_empty() {
                h3 { "Doubts" }
                ul {
                    @for doubt in &doubts {
                        li {
                            b { (format::name(&doubt.key)) } ": " (doubt.words()) ", in "
                            (doubt.samples) " of " (counted(doubt.of, "sample"))
                        }
                    }
                }
            }
            @if !seconds.is_empty() {
                details {
                    summary { "Second by second" }
                    div.plots { @for plot in &seconds { (plot) } }
                }
            }
        }
    }
}

fn figures(table: &Table<'_>, scenario: &ScenarioResult) -> Markup {
    html! {
        p.note { "Median of the rounds; smallest–largest; ratio to Krypton's in the same rounds, with its 95 % interval." }
        div.scroll tabindex="0" role="region" aria-label={ "Figures of " (scenario.name) } {
            table {
                thead {
                    tr {
                        th scope="col" { "Variant" }
                        th.num scope="col" { "Rounds" }
                        @for metric in &table.metrics {
                            th.num scope="col" {
                                (head(*metric))
                                @if *metric == scenario.primary { div.range { "primary" } }
                            }
                        }
                    }
                }
                tbody { @for row in &table.rows { (figures_row(row, &table.metrics)) } }
            }
        }
    }
}

fn figures_row(row: &Row<'_>, metrics: &[Metric]) -> Markup {
    let rounds = row.cells.iter().flatten().map(|cell| cell.rounds).max().unwrap_or(0);
    html! {
        tr.reference[row.reference] {
            th scope="row" { (format::name(&row.key)) }
            td.num { (rounds) }
            @for (cell, metric) in row.cells.iter().zip(metrics) {
                td.num { @match cell { Some(cell) => (figures_cell(cell, *metric, rounds)), None => "–" } }
            }
        }
    }
}

fn figures_cell(cell: &Cell, metric: Metric, rounds: usize) -> Markup {
    html! {
        (figure(metric, cell.median)) @if cell.spoiled { " †" }
        @let (low, high) = (figure(metric, cell.min), figure(metric, cell.max));
        @if low != high { div.range { (range(&low, &high)) } }
        @if let Some(ratio) = cell.ratio { div.range { (times(ratio)) } }
        @if cell.left_out > 0 && (!cell.spoiled || cell.rounds < rounds) {
            div.range { (cell.left_out) " left out" }
        }
    }
}
