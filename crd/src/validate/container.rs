//! The fields that are copied to the agent's container as they are: `env`, `envFrom`, `resources`.
//!
//! Their schema is open, so a mistake would show only when the Deployment is refused. Unknown fields are left to that:
//! a later Kubernetes may know them.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::quantity::Quantity;
use super::{Findings, Severity, present, quoted};
use crate::decode::shortened;

type Object = Map<String, Value>;

/// Where a variable's value may come from, and what each source must name.
const VALUE_SOURCES: [(&str, &[&str]); 5] = [
    ("configMapKeyRef", &["name", "key"]),
    ("secretKeyRef", &["name", "key"]),
    ("fieldRef", &["fieldPath"]),
    ("resourceFieldRef", &["resource"]),
    ("fileKeyRef", &["volumeName", "path", "key"]),
];

/// Where many variables may come from at once.
const MANY_SOURCES: [(&str, &[&str]); 2] = [("configMapRef", &["name"]), ("secretRef", &["name"])];

/// What a container may ask for besides `hugepages-*` and resources with a domain.
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

pub(super) fn check(spec: &Object, findings: &mut Findings) {
    check_env(&entries(spec, "env"), findings);
    for (place, entry) in entries(spec, "envFrom") {
        check_env_from(&format!("spec.envFrom[{place}]"), entry, findings);
    }
    if let Some(Value::Object(resources)) = spec.get("resources") {
        check_resources(resources, findings);
    }
}

/// The entries of a list that are objects; others were found when they were decoded.
fn entries<'v>(spec: &'v Object, field: &str) -> Vec<(usize, &'v Object)> {
    let list = spec.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().enumerate().filter_map(|(place, entry)| Some((place, entry.as_object()?))).collect()
}

fn check_env(entries: &[(usize, &Object)], findings: &mut Findings) {
    let mut names = HashSet::new();
    for (place, entry) in entries {
        let at = format!("spec.env[{place}]");
        let name = at.clone() + ".name";
        match present(entry, "name") {
            None => findings.invalid(name, "is missing; give the variable a name"),
            Some(Value::String(text)) if text.is_empty() => {
                findings.invalid(name, "is empty; give the variable a name");
            }
            Some(Value::String(text)) if !is_env_name(text) => findings.invalid(name, bad_env_name(text)),
            Some(Value::String(text)) => {
                if !names.insert(text.as_str()) {
                    let text = shortened(text);
                    let message = format!("{text:?} is set twice, and the last one counts; keep one of them");
                    findings.add(Severity::Suspicious, name, message);
                }
            }
            Some(other) => findings.invalid(name, not_a_text(other)),
        }
        check_env_value(&at, entry, findings);
    }
}

fn check_env_value(at: &str, entry: &Object, findings: &mut Findings) {
    let value = present(entry, "value");
    if let Some(other) = value.filter(|value| !value.is_string()) {
        findings.invalid(format!("{at}.value"), not_a_text(other));
    }
    let Some(from) = present(entry, "valueFrom") else { return };
    let at = format!("{at}.valueFrom");
    if value.and_then(Value::as_str).is_some_and(|value| !value.is_empty()) {
        findings.invalid(at.clone(), "stands beside value; keep one of the two");
    }
    match from {
        Value::Object(from) => check_source(&at, from, &VALUE_SOURCES, findings),
        other => findings.invalid(at, not_an_object(other)),
    }
}

fn check_env_from(at: &str, entry: &Object, findings: &mut Findings) {
    match present(entry, "prefix") {
        Some(Value::String(prefix)) if !prefix.is_empty() && !is_env_name(prefix) => {
            findings.invalid(format!("{at}.prefix"), bad_env_name(prefix));
        }
        None | Some(Value::String(_)) => {}
        Some(other) => findings.invalid(format!("{at}.prefix"), not_a_text(other)),
    }
    check_source(at, entry, &MANY_SOURCES, findings);
}

/// Exactly one of `sources`, with all that it must name.
fn check_source(at: &str, from: &Object, sources: &[(&str, &[&str])], findings: &mut Findings) {
    let named: Vec<_> =
        sources.iter().filter_map(|(key, must)| Some((key, must, present(from, key)?))).collect();
    let (key, must, source) = match named[..] {
        [one] => one,
        [] => {
            let all: Vec<_> = sources.iter().map(|(key, _)| *key).collect();
            return findings.invalid(at, format!("names no source; write one of {}", all.join(", ")));
        }
        _ => {
            let all: Vec<_> = named.iter().map(|(key, ..)| **key).collect();
            return findings.invalid(at, format!("names several sources; keep one of {}", all.join(", ")));
        }
    };
    let at = format!("{at}.{key}");
    let Value::Object(source) = source else { return findings.invalid(at, not_an_object(source)) };
    for field in *must {
        let at = format!("{at}.{field}");
        match present(source, field) {
            Some(Value::String(text)) if !text.is_empty() => {}
            None | Some(Value::String(_)) => findings.invalid(at, "is missing; name it"),
            Some(other) => findings.invalid(at, not_a_text(other)),
        }
    }
}

fn check_resources(resources: &Object, findings: &mut Findings) {
    let requests = quantities(resources, "requests", findings);
    let limits = quantities(resources, "limits", findings);
    let is_limited = |name: &str| resources.get("limits").is_some_and(|limits| limits.get(name).is_some());
    for (key, (written, request)) in &requests {
        let name = shortened(key);
        let at = format!("spec.resources.requests[{name}]");
        match limits.get(key) {
            Some((limited, limit)) if request > limit => {
                let message =
                    format!("{written} is more than the limit of {limited}; lower it, or raise the limit");
                findings.invalid(at, message);
            }
            Some((limited, limit)) if !is_overcommitted(key) && request != limit => {
                let message =
                    format!("{written} must equal the limit of {limited}, as {name} is never shared");
                findings.invalid(at, message);
            }
            None if !is_overcommitted(key) && !is_limited(key) => {
                findings.invalid(at, format!("lacks a limit; set limits[{name}] to {written} too"));
            }
            _ => {}
        }
    }
    match present(resources, "claims") {
        None | Some(Value::Array(_)) => {}
        Some(other) => {
            findings.invalid("spec.resources.claims", format!("is {}; write a list", quoted(other)));
        }
    }
    for field in resources.keys().filter(|key| !matches!(key.as_str(), "requests" | "limits" | "claims")) {
        let at = format!("spec.resources.{}", shortened(field));
        findings.add(Severity::Suspicious, at, "is no field of Kubernetes 1.33; write requests or limits");
    }
}

/// The good ones of `requests` or `limits`: as written, and the value, by name.
fn quantities<'v>(
    resources: &'v Object,
    part: &str,
    findings: &mut Findings,
) -> BTreeMap<&'v str, (String, Quantity)> {
    let at = format!("spec.resources.{part}");
    let part = match present(resources, part) {
        None => return BTreeMap::new(),
        Some(Value::Object(part)) => part,
        Some(other) => {
            findings.invalid(at, not_an_object(other));
            return BTreeMap::new();
        }
    };
    let mut good = BTreeMap::new();
    for (name, value) in part.iter().filter(|(_, value)| !value.is_null()) {
        let at = format!("{at}[{}]", shortened(name));
        if !is_resource(name) {
            let message = "is no resource of a container; write cpu, memory, ephemeral-storage, hugepages-SIZE, or a \
                           name with a domain such as nvidia.com/gpu";
            findings.invalid(at, message);
            continue;
        }
        let written = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        match Quantity::parse(&written) {
            None => findings.invalid(
                at,
                format!("{} is not a quantity; write a number with a unit, e.g. 500m, 2, 1Gi", quoted(value)),
            ),
            Some(quantity) if quantity.is_negative() => {
                findings.invalid(at, format!("{} is negative; write 0 or more", quoted(value)));
            }
            Some(quantity) if name.contains('/') && !quantity.is_whole() => {
                findings.invalid(at, format!("{} is not whole; {name} is counted in pieces", quoted(value)));
            }
            Some(quantity) => {
                good.insert(name.as_str(), (shortened(&written), quantity));
            }
        }
    }
    good
}

fn is_resource(name: &str) -> bool {
    let (domain, rest) = name.split_once('/').unwrap_or(("", name));
    let with_domain = !domain.is_empty() && !rest.is_empty() && !rest.contains('/');
    with_domain || RESOURCES.contains(&name) || name.starts_with("hugepages-")
}

/// Whether pods may together be promised more than a node has.
fn is_overcommitted(name: &str) -> bool {
    RESOURCES.contains(&name)
}

/// Kubernetes 1.33 takes every printable ASCII character but the one that ends a name.
fn is_env_name(name: &str) -> bool {
    name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=')
}

fn bad_env_name(name: &str) -> String {
    format!("{:?} cannot name a variable; write letters, digits and _ only", shortened(name))
}

fn not_a_text(value: &Value) -> String {
    match value {
        Value::Number(_) | Value::Bool(_) => format!("{value} is not a text; write \"{value}\", in quotes"),
        _ => format!("{} is not a text", quoted(value)),
    }
}

fn not_an_object(value: &Value) -> String {
    format!("{} is not an object; write fields below it", quoted(value))
}
