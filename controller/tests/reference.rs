//! The pages of `docs/reference/` say what the code does.

#[path = "../../docs/reference/check.rs"]
mod check;
#[path = "../../docs/reference/program.rs"]
mod program;

use check::check;
use clap::CommandFactory as _;
use krypton_controller::args::Args;
use krypton_controller::certificate::{Server, UnixSeconds};
use krypton_controller::discovery::Refused;
use krypton_controller::metrics::Metrics;
use krypton_controller::object::Kind;
use krypton_controller::source::Purpose;
use krypton_controller::status::events::EventReason;
use krypton_controller::workload::build_children;
use krypton_crd::Agent;
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
    metrics.count_discovery_refusal(Refused::Connections);
    metrics.set_certificate_expiry(Server::Discovery, UnixSeconds(0));
    let mut exposition = String::new();
    text::encode(&mut exposition, &registry).unwrap();
    check("metrics.md", "controller", &program::metrics(&exposition));
}

/// `docs/reference/status.md` explains the Events that no condition explains.
#[test]
fn the_events_are_explained() {
    let page = include_str!("../../docs/reference/status.md");
    let (_, section) = page.split_once("\n## Events\n").expect("the page has the section");
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let explained: Vec<_> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(explained, EventReason::OWN.map(EventReason::as_str));
}

#[test]
fn the_objects_of_an_agent_are_those_of_the_page() {
    let agent = serde_json::json!({
        "apiVersion": "krypton.ai/v1alpha1",
        "kind": "Agent",
        "metadata": { "name": "travel", "namespace": "team-a", "uid": "6f1c1b52-8a0e-4f2b-9d5c-0d6a3f0c7e11" },
        "spec": { "image": "ghcr.io/org/travel:1.4" },
    });
    let agent = Agent::from_value(agent).unwrap();
    let children = build_children(&agent, &agent.spec.effective(), 1).unwrap();
    let objects = [children.service_account.unwrap(), children.service, children.deployment];
    // The metadata but for the name is said in words.
    let objects = objects.map(|mut object| {
        object["metadata"] = serde_json::json!({ "name": object["metadata"]["name"] });
        object
    });
    let yaml = serde_saphyr::to_string_multiple(&objects).unwrap();
    check("workloads.md", "objects", &format!("```yaml\n{yaml}```\n"));
}
