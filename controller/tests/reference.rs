//! The pages of `docs/reference/` say what the code does.

#[path = "../../docs/reference/check.rs"]
mod check;
#[path = "../../docs/reference/program.rs"]
mod program;

use check::check;
use clap::CommandFactory as _;
use krypton_controller::args::Args;
use krypton_controller::metrics::Metrics;
use krypton_controller::object::Kind;
use krypton_controller::source::Purpose;
use krypton_controller::status::events::EventReason;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

#[test]
fn the_flags_are_those_of_the_program() {
    check("controller-flags.md", "flags", &program::flags(&Args::command()));
}

#[test]
fn the_metrics_are_those_of_the_program() {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    // A sample of each metric that has none before something happens.
    metrics.count_refused_object(Kind::Agent);
    for purpose in [Purpose::Routes, Purpose::Workloads] {
        metrics.set_source_up(purpose, Kind::Agent, true);
    }
    let mut exposition = String::new();
    text::encode(&mut exposition, &registry).unwrap();
    check("metrics.md", "controller", &program::metrics(&exposition));
}

/// `docs/reference/status.md` explains the Events about what was done.
#[test]
fn the_events_are_explained() {
    let page = include_str!("../../docs/reference/status.md");
    let (_, section) = page.split_once("\n## Events\n").expect("the page has the section");
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let explained: Vec<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(explained, EventReason::DEEDS.map(EventReason::as_str));
}
