//! The dashboard that the chart ships and the alerts that the docs show: they ask for metrics that exist, and (tier
//! `metrics`) a real Prometheus that scrapes the real programs has an answer to every one of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const DASHBOARD: &str = include_str!("../../../charts/krypton/files/dashboards/krypton.json");
const METRICS_PAGE: &str = include_str!("../../../docs/reference/metrics.md");
const OPERATIONS_PAGE: &str = include_str!("../../../docs/operations.md");

/// An expression and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    pub(crate) place: String,
    pub(crate) expression: String,
}

pub(crate) fn dashboard() -> Value {
    serde_json::from_str(DASHBOARD).unwrap()
}

/// All expressions of all panels, as they are written there.
pub(crate) fn panel_queries() -> Vec<Query> {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(|target| (panel["title"].as_str().unwrap(), target["expr"].as_str().unwrap()))
    });
    targets
        .map(|(title, expression)| Query {
            place: format!("the panel {title}"),
            expression: expression.to_owned(),
        })
        .collect()
}

/// The expressions of the page's blocks of `promql`, which empty lines part.
pub(crate) fn alerts() -> Vec<Query> {
    let blocks = OPERATIONS_PAGE.split("```promql\n").skip(1);
    let blocks = blocks.map(|rest| rest.split_once("```").unwrap().0);
    let alerts = blocks.flat_map(|block| block.split("\n\n"));
    alerts
        .map(|alert| {
            let (comment, expression) = alert.trim().split_once('\n').unwrap();
            let name = comment.strip_prefix("# ").unwrap();
            Query { place: format!("the alert {name}"), expression: expression.to_owned() }
        })
        .collect()
}

/// The metrics that an expression names.
fn names(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("krypton_")).collect()
}

/// Every metric of the reference, with its type.
fn documented() -> BTreeMap<&'static str, &'static str> {
    let rows = METRICS_PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let rows = rows.filter(|(name, _)| name.starts_with("krypton_"));
    rows.map(|(name, rest)| (name, rest.split(" | ").next().unwrap())).collect()
}

#[test]
fn every_metric_is_one_of_the_reference() {
    let documented = documented();
    assert!(documented.len() > 30, "{documented:?}");
    let queries: Vec<_> = panel_queries().into_iter().chain(alerts()).collect();
    for Query { place, expression } in &queries {
        let names = names(expression);
        assert!(!names.is_empty(), "{place} asks for no metric: {expression}");
        for name in names {
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            let kind =
                documented.get(family).unwrap_or_else(|| panic!("{place}: {family} is not in metrics.md"));
            assert_eq!(*kind == "histogram", family != name, "{place}: {name} is a {kind}");
            // A counter's value means nothing: only how it grows does.
            if *kind == "counter" {
                let grows = ["rate", "increase"].iter().any(|f| expression.contains(&format!("{f}({name}")));
                assert!(grows, "{place}: neither the rate nor the increase of {name}");
            }
        }
    }
}

#[test]
fn every_metric_that_a_person_may_have_to_look_at_is_in_the_dashboard() {
    let shown: BTreeSet<String> = panel_queries()
        .iter()
        .flat_map(|query| names(&query.expression).into_iter().map(str::to_owned).collect::<Vec<_>>())
        .map(|name| name.strip_suffix("_bucket").map_or(name.clone(), str::to_owned))
        .collect();
    let missing: Vec<_> = documented().into_keys().filter(|name| !shown.contains(*name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn panels_are_told_apart_and_lie_side_by_side() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "the id of {} is another's", panel["title"]);
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{} is too wide", panel["title"]);
        for y in at("y")..at("y") + at("h") {
            for x in at("x")..at("x") + at("w") {
                assert!(taken.insert((x, y)), "{} lies on another panel", panel["title"]);
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
            assert!(panel["description"].is_string(), "{} is not explained", panel["title"]);
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let variables: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(variables, ["datasource", "namespace", "agent"]);
}
