//! Agents that are not ready, and those that the ingress would cut.

use std::time::Duration;

use krypton_crd::Agent;
use serde_json::Value;

use super::flags;
use crate::cluster::Component;
use crate::doctor::gather::Gathered;
use crate::findings::{Finding, Level};

/// Agents told one by one.
const TOLD: usize = 50;

/// All findings about Agents.
pub(crate) fn all(gathered: &Gathered) -> Vec<Finding> {
    let limit = read_timeout(gathered);
    let mut findings: Vec<Finding> = Vec::new();
    // Those that could not be read are told as such.
    let Some(agents) = &gathered.agents else { return findings };
    for agent in agents {
        findings.extend(not_ready(agent));
        findings.extend(limit.and_then(|limit| cut_by_the_ingress(agent, limit)));
    }
    if findings.is_empty() && !agents.is_empty() {
        let message = format!("all {} are ready", agents.len());
        return vec![Finding::new(Level::Good, "AgentsReady", "Agents", message)];
    }
    let more = findings.len().saturating_sub(TOLD);
    findings.truncate(TOLD);
    if more > 0 {
        findings.push(Finding::new(
            Level::Warning,
            "MoreAgents",
            "Agents",
            format!("and {more} findings more"),
        ));
    }
    findings
}

/// What the controllers were told that the ingress cuts silence at.
pub(super) fn read_timeout(gathered: &Gathered) -> Option<Duration> {
    let controller = gathered.deployment(Component::Controller)?;
    humantime::parse_duration(&flags::value(controller, "ingress-read-timeout")?).ok()
}

fn not_ready(agent: &Value) -> Option<Finding> {
    let conditions = agent.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    let text = |field: &str| ready.and_then(|ready| ready[field].as_str()).unwrap_or_default();
    let (reason, message) = (text("reason"), text("message"));
    match text("status") {
        "True" => None,
        "" => Some(Finding::new(
            Level::Warning,
            "NoStatus",
            name(agent),
            "no controller has said anything of it",
        )),
        // Somebody turned it off.
        _ if reason == "TurnedOff" => Some(Finding::new(Level::Note, reason, name(agent), message)),
        _ => Some(Finding::new(Level::Warning, reason, name(agent), format!("is not ready: {message}"))),
    }
}

/// For how long an Agent may be silent; `None` where it does not decode.
fn timeout(agent: &Value) -> Option<Duration> {
    let spec = Agent::from_value(agent.clone()).ok()?.spec;
    let effective = spec.effective();
    // No call lasts longer than `maxDuration`, so no silence does.
    Some(effective.max_duration.map_or(effective.timeout, |whole| whole.min(effective.timeout)))
}

/// For how long the most silent of the Agents that were read may be silent.
pub(super) fn longest_timeout(gathered: &Gathered) -> Option<Duration> {
    gathered.agents.iter().flatten().filter_map(timeout).max()
}

/// As an Agent, a flag and the chart's values spell it.
pub(super) fn written(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

fn cut_by_the_ingress(agent: &Value, limit: Duration) -> Option<Finding> {
    let timeout = timeout(agent)?;
    if timeout < limit {
        return None;
    }
    let (timeout, limit) = (written(timeout), written(limit));
    let message =
        format!("may be silent for {timeout}, but the ingress cuts a call after {limit} of silence");
    Some(
        Finding::new(Level::Warning, "TimeoutReachesIngress", name(agent), message)
            .todo("raise ingress.readTimeout in the chart's values above it, or lower timeout of the Agent"),
    )
}

fn name(agent: &Value) -> String {
    let text =
        |field: &str| agent.pointer("/metadata").and_then(|meta| meta[field].as_str()).unwrap_or_default();
    format!("Agent {}/{}", text("namespace"), text("name"))
}

#[cfg(test)]
mod tests {
    use krypton_crd::keys;
    use serde_json::json;

    use super::*;

    fn agent(spec: Value, status: &str, reason: &str) -> Value {
        let mut spec = spec;
        spec["image"] = json!("a:1");
        json!({
            "apiVersion": keys::API_VERSION, "kind": keys::KIND,
            "metadata": { "namespace": "team-a", "name": "travel" }, "spec": spec,
            "status": { "conditions": [{ "type": "Ready", "status": status, "reason": reason, "message": "why" }] },
        })
    }

    fn found(agents: Vec<Value>, timeout: &str) -> Vec<Finding> {
        let controller = json!({
            "metadata": { "labels": { (keys::COMPONENT_LABEL): "controller" } },
            "spec": { "template": { "spec": { "containers": [
                { "args": [format!("--ingress-read-timeout={timeout}")] }] } } },
        });
        all(&Gathered { agents: Some(agents), deployments: vec![controller], ..Gathered::default() })
    }

    #[test]
    fn an_agent_that_is_not_ready_is_told_with_its_reason() {
        let findings = found(
            vec![
                agent(json!({}), "True", "Ready"),
                agent(json!({}), "False", "Unavailable"),
                agent(json!({}), "False", "TurnedOff"),
                json!({ "metadata": { "namespace": "a", "name": "b" } }),
            ],
            "330s",
        );
        let told: Vec<_> = findings.iter().map(|one| (one.level, one.name.as_str())).collect();
        assert_eq!(
            told,
            [(Level::Warning, "Unavailable"), (Level::Note, "TurnedOff"), (Level::Warning, "NoStatus")]
        );
    }

    /// The default is 300 s; reaching the limit is too much, as both would end at one time.
    #[test]
    fn an_agent_that_may_be_silent_as_long_as_the_ingress_waits_is_told() {
        for (spec, limit, told) in [
            (json!({}), "330s", false),
            (json!({}), "300s", true),
            (json!({}), "60s", true),
            (json!({ "timeout": "5m30s" }), "330s", true),
            (json!({ "timeout": "30s" }), "60s", false),
            (json!({ "timeout": "400s", "maxDuration": "60s" }), "330s", false),
        ] {
            let findings = found(vec![agent(spec.clone(), "True", "Ready")], limit);
            assert_eq!(findings[0].name == "TimeoutReachesIngress", told, "{spec} {limit}");
        }
    }
}
