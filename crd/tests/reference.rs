//! `docs/reference/agent.md` says what the types do.

#[path = "../../docs/reference/check.rs"]
mod check;

use std::fmt::Write as _;

use check::check;
use krypton_crd::conditions::{
    AcceptedReason, AvailableReason, ConditionType, ProgrammedReason, ReadyReason, ResolvedRefsReason,
};
use krypton_crd::crd::agent_crd;
use krypton_crd::{Agent, EffectiveSpec, GoDuration};
use serde_json::{Map, Value, json};

const PAGE: &str = include_str!("../../docs/reference/agent.md");
const STATUS_PAGE: &str = include_str!("../../docs/reference/status.md");

fn schema(part: &str) -> Value {
    let pointer = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{part}");
    let definition = serde_json::to_value(agent_crd()).expect("a definition is JSON");
    definition.pointer(&pointer).expect(&pointer).clone()
}

fn properties(part: &str) -> Map<String, Value> {
    schema(part)["properties"].as_object().expect("an object").clone()
}

#[test]
fn the_fields_are_those_of_the_definition() {
    let mut table = "| field | type | meaning |\n|---|---|---|\n".to_owned();
    for (field, schema) in properties("spec") {
        let meaning = schema["description"].as_str().unwrap().replace('|', "\\|");
        writeln!(table, "| `{field}` | {} | {meaning} |", type_of(&schema)).unwrap();
    }
    check("agent.md", "spec", &table);
}

#[test]
fn the_status_is_that_of_the_definition() {
    let mut table = "| field | type | meaning |\n|---|---|---|\n".to_owned();
    for (field, schema) in properties("status") {
        let meaning = schema["description"].as_str().unwrap().replace('|', "\\|");
        writeln!(table, "| `{field}` | {} | {meaning} |", type_of(&schema)).unwrap();
    }
    check("agent.md", "status", &table);
}

#[test]
fn the_rules_are_those_of_the_definition() {
    let definition = serde_json::to_value(agent_crd()).unwrap();
    let whole = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let spec = &whole["properties"]["spec"];
    let mut list = String::new();
    let mut add = |at: &str, schema: &Value| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            writeln!(list, "- {at}: {}.", rule["message"].as_str().unwrap()).unwrap();
        }
    };
    add("`metadata.name`", whole);
    add("`spec`", spec);
    for (field, schema) in spec["properties"].as_object().unwrap() {
        add(&format!("`spec.{field}`"), schema);
    }
    check("agent.md", "rules", &list);
}

#[test]
fn the_defaults_are_those_in_effect() {
    let effective = |spec: Value| -> EffectiveSpec {
        let agent = json!({
            "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": { "name": "a" }, "spec": spec,
        });
        Agent::from_value(agent).unwrap().spec.effective()
    };
    let plain = effective(json!({ "image": "i" }));
    let serverless = effective(json!({ "image": "i", "mode": "serverless" }));
    let mcp = effective(json!({ "image": "i", "protocol": "mcp" }));
    let duration =
        |duration: std::time::Duration| format!("{}s", duration.as_secs()).parse::<GoDuration>().unwrap();
    let host = |spec: &EffectiveSpec| serde_json::to_value(spec.upstream_host).unwrap();
    let rows = [
        ("timeout", duration(plain.timeout).to_string()),
        ("maxDuration", plain.max_duration.map_or("none".to_owned(), |limit| duration(limit).to_string())),
        ("startupTimeout", duration(plain.startup_timeout).to_string()),
        ("drainTimeout", duration(plain.drain_timeout).to_string()),
        ("concurrency", plain.concurrency.map_or("no limit".to_owned(), |limit| limit.to_string())),
        ("maxStandingStreams", plain.max_standing_streams.to_string()),
        ("idleStreams", text(&serde_json::to_value(plain.idle_streams).unwrap())),
        ("invocationPath", format!("`{}`", plain.invocation_path)),
        ("upstreamHost", format!("{}; {} for `protocol: mcp`", text(&host(&plain)), text(&host(&mcp)))),
        ("appProtocol", text(&serde_json::to_value(plain.app_protocol).unwrap())),
        (
            "minReplicas",
            format!("{}; {} for `mode: serverless`", plain.min_replicas, serverless.min_replicas),
        ),
        ("maxReplicas", format!("{}, or `minReplicas` where that is more", plain.max_replicas)),
        ("scaleToZeroAfter", duration(plain.scale_to_zero_after).to_string()),
    ];
    let mut table = "| field | unset means |\n|---|---|\n".to_owned();
    for (field, default) in rows {
        writeln!(table, "| `{field}` | {default} |").unwrap();
    }
    check("agent.md", "defaults", &table);
}

/// A field that does nothing yet must not look as if it did.
#[test]
fn every_field_is_said_to_have_an_effect_or_none() {
    let section = |title: &str| {
        let (_, rest) = PAGE.split_once(&format!("\n### {title}\n")).expect(title);
        rest.split_once("\n#").map_or(rest, |(section, _)| section).to_owned()
    };
    let (now, later) = (section("In effect"), section("Without effect yet"));
    for field in properties("spec").keys() {
        let named = |section: &str| section.contains(&format!("`{field}`"));
        assert!(named(&now) != named(&later), "agent.md must name `{field}` in one of the two lists");
    }
}

/// `docs/reference/status.md` explains every reason of every condition, and none besides.
#[test]
fn the_reasons_are_explained() {
    macro_rules! reasons {
        ($name:ident) => {
            $name::ALL.iter().map(|reason| (reason.status().as_str(), reason.as_str())).collect::<Vec<_>>()
        };
    }
    for kind in ConditionType::ALL {
        let reasons = match kind {
            ConditionType::Accepted => reasons!(AcceptedReason),
            ConditionType::ResolvedRefs => reasons!(ResolvedRefsReason),
            ConditionType::Programmed => reasons!(ProgrammedReason),
            ConditionType::Available => reasons!(AvailableReason),
            ConditionType::Ready => reasons!(ReadyReason),
        };
        let explained: Vec<_> = rows(kind.as_str()).map(|row| (word(row[0]), word(row[1]))).collect();
        assert_eq!(explained, reasons, "status.md, {}", kind.as_str());
    }
}

#[test]
fn the_phases_are_explained() {
    let phases = schema("status/properties/phase");
    let explained: Vec<_> = rows("Phase").map(|row| json!(word(row[0]))).collect();
    assert_eq!(json!(explained), phases["enum"]);
}

/// The rows of the table in a section of `docs/reference/status.md`, as cells.
fn rows(section: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let (_, rest) = STATUS_PAGE.split_once(&format!("\n## {section}\n")).expect(section);
    let section = rest.split_once("\n## ").map_or(rest, |(section, _)| section);
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

fn word(cell: &str) -> &str {
    cell.trim_matches('`')
}

fn text(value: &Value) -> String {
    format!("`{}`", value.as_str().expect("a text"))
}

/// A type as a person reads it, with its bounds and its stored default.
fn type_of(schema: &Value) -> String {
    let kind = schema["type"].as_str().expect("a type");
    let mut told = match (kind, schema["enum"].as_array()) {
        (_, Some(values)) => values
            .iter()
            .map(|value| match value.as_str().expect("a text") {
                "" => "empty".to_owned(),
                value => format!("`{value}`"),
            })
            .collect::<Vec<_>>()
            .join(", "),
        ("string", None) if schema["pattern"].is_string() => "duration".to_owned(),
        ("string", None) if schema["format"] == "date-time" => "time".to_owned(),
        ("array", None) => "list".to_owned(),
        (kind, None) => kind.to_owned(),
    };
    let bound = |name: &str| schema[name].as_f64().map(|bound| bound.to_string());
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => write!(told, ", {least} to {most}").expect("a string"),
        (Some(least), None) => write!(told, ", at least {least}").expect("a string"),
        _ => {}
    }
    if !schema["default"].is_null() {
        let default = schema["default"].as_str().map_or(schema["default"].to_string(), str::to_owned);
        write!(told, "; stored default `{default}`").expect("a string");
    }
    told
}
