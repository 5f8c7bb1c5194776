//! The shape of `podTemplate`, as far as it can be judged before it is laid over ours.
//!
//! The whole of a pod is the API server's to judge; what is found here are the mistakes that it explains badly, and
//! those that it does not see since they are about what is Krypton's.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Map, Value};

use super::fields::Decoded;
use super::{Findings, Severity, present, quoted};
use crate::agent::AgentSpec;
use crate::decode::shortened;
use crate::defaults::PRE_STOP;
use crate::keys::{AGENT_CONTAINER, AGENT_LABEL, HTTP_PORT};
use crate::names::is_label;

type Object = Map<String, Value>;

/// Fields of a pod that a Deployment's template may not have.
const NOT_IN_A_TEMPLATE: [&str; 2] = ["activeDeadlineSeconds", "ephemeralContainers"];

pub(super) fn check(decoded: &Decoded<'_>, findings: &mut Findings) {
    let Some(template) = &decoded.spec.pod_template else { return };
    let at = "spec.podTemplate";
    for key in template.keys().filter(|key| !matches!(key.as_str(), "metadata" | "spec")) {
        let message = "is no field of a pod template, which has metadata and spec; move it below one of them";
        findings.invalid(format!("{at}.{}", shortened(key)), message);
    }
    if let Some(metadata) = object(template, at, "metadata", findings) {
        check_metadata(metadata, decoded.name, findings);
    }
    if let Some(spec) = object(template, at, "spec", findings) {
        check_spec(spec, &decoded.spec, findings);
    }
}

/// The object at `key`, if there is one; anything else is a problem.
fn object<'v>(inside: &'v Object, at: &str, key: &str, findings: &mut Findings) -> Option<&'v Object> {
    match present(inside, key)? {
        Value::Object(object) => Some(object),
        other => {
            let message = format!("{} is not an object; write fields below it", quoted(other));
            findings.invalid(format!("{at}.{key}"), message);
            None
        }
    }
}

fn check_metadata(metadata: &Object, agent: Option<&str>, findings: &mut Findings) {
    let at = "spec.podTemplate.metadata";
    for part in ["labels", "annotations"] {
        for (key, value) in object(metadata, at, part, findings).into_iter().flatten() {
            let at = format!("{at}.{part}[{}]", shortened(key));
            match value {
                Value::String(text) if part == "labels" && key == AGENT_LABEL && agent != Some(text) => {
                    let message = "stays the Agent's name, by which its pods are found; leave it out";
                    findings.add(Severity::Suspicious, at, message);
                }
                Value::String(_) => {}
                Value::Number(_) | Value::Bool(_) => {
                    findings.invalid(at, format!("{value} is not a text; write \"{value}\", in quotes"));
                }
                other => findings.invalid(at, format!("{} is not a text", quoted(other))),
            }
        }
    }
}

fn check_spec(pod: &Object, agent: &AgentSpec, findings: &mut Findings) {
    let at = "spec.podTemplate.spec";
    if let Some(policy) = present(pod, "restartPolicy").filter(|policy| *policy != "Always") {
        let message =
            format!("{} cannot be: pods of an Agent are always restarted; leave it out", quoted(policy));
        findings.invalid(format!("{at}.restartPolicy"), message);
    }
    for field in NOT_IN_A_TEMPLATE.into_iter().filter(|field| present(pod, field).is_some()) {
        findings
            .invalid(format!("{at}.{field}"), "cannot stand in the template of a Deployment; take it out");
    }
    if present(pod, "hostNetwork") == Some(&Value::Bool(true)) {
        let message = format!(
            "takes port {} of the node, so that a node holds one pod; leave it out unless that is meant",
            agent.port
        );
        findings.add(Severity::Suspicious, format!("{at}.hostNetwork"), message);
    }
    check_grace(pod, agent, findings);
    check_containers(pod, agent, findings);
}

fn check_grace(pod: &Object, agent: &AgentSpec, findings: &mut Findings) {
    let Some(grace) = present(pod, "terminationGracePeriodSeconds").and_then(Value::as_u64) else { return };
    let needed = PRE_STOP + agent.effective().drain_timeout;
    if Duration::from_secs(grace) < needed {
        let message = format!(
            "{grace} is less than drainTimeout and 5 s, {} in all, so running calls are cut off; leave it out",
            needed.as_secs()
        );
        let field = "spec.podTemplate.spec.terminationGracePeriodSeconds";
        findings.add(Severity::Suspicious, field, message);
    }
}

fn check_containers(pod: &Object, agent: &AgentSpec, findings: &mut Findings) {
    // Ours is there, whether it is mentioned or not.
    let mut names = HashSet::from([AGENT_CONTAINER]);
    for list in ["containers", "initContainers"] {
        let at = format!("spec.podTemplate.spec.{list}");
        let containers = match present(pod, list) {
            None => continue,
            Some(Value::Array(containers)) => containers,
            Some(other) => {
                findings.invalid(at, format!("{} is not a list; write one entry a container", quoted(other)));
                continue;
            }
        };
        let mut mentions = 0;
        for (place, container) in containers.iter().enumerate() {
            let at = format!("{at}[{place}]");
            let Value::Object(container) = container else {
                findings
                    .invalid(at, format!("{} is not a container; write name and fields", quoted(container)));
                continue;
            };
            let Some(name) = container_name(container, &at, findings) else { continue };
            let is_ours = list == "containers" && name == AGENT_CONTAINER;
            mentions += usize::from(is_ours);
            if (is_ours && mentions > 1) || (!is_ours && !names.insert(name)) {
                findings.invalid(
                    format!("{at}.name"),
                    format!("{:?} is taken; container names differ", shortened(name)),
                );
            }
            if !is_ours && present(container, "image").is_none_or(|image| image == "") {
                let message = format!(
                    "is missing; name the image, or call the entry {AGENT_CONTAINER} if it is for Krypton's own \
                     container"
                );
                findings.invalid(format!("{at}.image"), message);
            }
            check_ports(container, is_ours, &at, agent, findings);
        }
    }
}

fn container_name<'v>(container: &'v Object, at: &str, findings: &mut Findings) -> Option<&'v str> {
    let name = present(container, "name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        let message = format!("is missing; name the container, or {AGENT_CONTAINER} to change Krypton's own");
        findings.invalid(format!("{at}.name"), message);
        return None;
    }
    if !is_label(name) {
        let message = format!(
            "{:?} cannot name a container; write at most 63 of a-z, 0-9 and '-', not at an end",
            shortened(name)
        );
        findings.invalid(format!("{at}.name"), message);
    }
    Some(name)
}

/// The port `http` of the container `agent` is where calls go.
fn check_ports(container: &Object, is_ours: bool, at: &str, agent: &AgentSpec, findings: &mut Findings) {
    let ports = container.get("ports").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named_http = ports.iter().enumerate().filter(|(_, port)| port["name"] == HTTP_PORT);
    for (place, port) in named_http {
        let at = format!("{at}.ports[{place}].name");
        if !is_ours {
            let message = "is the name of the agent's own port, where calls go; call this one something else";
            findings.add(Severity::Suspicious, at, message);
        } else if port["containerPort"] != agent.port.get() {
            let message = format!(
                "is the name of the agent's own port, which is {}; set spec.port to change it, or call this one \
                 something else",
                agent.port
            );
            findings.invalid(at, message);
        }
    }
}
