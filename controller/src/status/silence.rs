//! Whether the ingress in front cuts what the gateway would still wait for.
//!
//! An Agent may be silent for its `timeout`. Where the read timeout of the ingress is no longer than that, it is the
//! ingress that ends such a call, with an error that nobody here sees. That is said behind the message of
//! `Accepted=True`, since a status outlives the controller: the next one finds it said, and tells no second Event.

use std::time::Duration;

use krypton_crd::conditions::{AcceptedReason, ConditionStatus, ConditionType};
use krypton_crd::{AgentSpec, AgentStatus};

/// What `Accepted` says where it holds.
pub(super) const ACCEPTED: &str = "The spec is valid and the agent's objects are as it says.";

/// A sentence where the agent may be silent for as long as the ingress waits, or longer.
pub(super) fn warning(spec: &AgentSpec, ingress_read_timeout: Option<Duration>) -> Option<String> {
    let ingress = ingress_read_timeout?;
    let effective = spec.effective();
    // No call lasts longer than `maxDuration`, so no silence does.
    let silence = effective.max_duration.map_or(effective.timeout, |whole| whole.min(effective.timeout));
    if silence < ingress {
        return None;
    }
    let by_default = if spec.timeout.is_none() { " by default" } else { "" };
    Some(format!(
        "But spec.timeout is {}{by_default}, and the ingress in front cuts an answer that is silent for {}: it ends such \
         a call before the gateway would. Lower spec.timeout, or raise the ingress's read timeout (chart value \
         ingress.readTimeout).",
        written(effective.timeout),
        written(ingress),
    ))
}

/// As both an Agent and the flag may spell it.
fn written(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// That sentence, where `status` says it.
pub(super) fn said(status: &AgentStatus) -> Option<&str> {
    behind_accepted(status).filter(|rest| !rest.is_empty())
}

/// The same, empty where there is nothing to warn of; `None` where `Accepted` is not True, so that it cannot be said.
pub(crate) fn behind_accepted(status: &AgentStatus) -> Option<&str> {
    Some(accepted(status)?.strip_prefix(ACCEPTED)?.trim_start())
}

/// Whether `status` says `warning`, however it spells the rest.
pub(super) fn says(status: &AgentStatus, warning: &str) -> bool {
    accepted(status).is_some_and(|message| message.ends_with(warning))
}

/// The message of `Accepted` where that is True.
fn accepted(status: &AgentStatus) -> Option<&str> {
    let condition = status.conditions.iter().find(|one| one.type_ == ConditionType::Accepted.as_str())?;
    let holds = condition.status == ConditionStatus::True.as_str()
        && condition.reason == AcceptedReason::Accepted.as_str();
    holds.then_some(condition.message.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn warned(spec: serde_json::Value, ingress: Option<u64>) -> Option<String> {
        let mut spec = spec;
        spec["image"] = "i".into();
        let spec: AgentSpec = serde_json::from_value(spec).unwrap();
        warning(&spec, ingress.map(Duration::from_secs))
    }

    #[test]
    fn a_timeout_that_reaches_the_ingress_is_warned_of() {
        for (spec, ingress, warns) in [
            (json!({}), None, false),
            (json!({}), Some(301), false),
            (json!({}), Some(300), true),
            (json!({ "timeout": "10m" }), Some(330), true),
            (json!({ "timeout": "59s" }), Some(60), false),
            // The gateway ends the call itself.
            (json!({ "timeout": "10m", "maxDuration": "1m" }), Some(330), false),
            (json!({ "timeout": "10m", "maxDuration": "20m" }), Some(330), true),
        ] {
            assert_eq!(warned(spec.clone(), ingress).is_some(), warns, "{spec} {ingress:?}");
        }
    }

    #[test]
    fn the_sentence_names_both_values_and_both_ways_out() {
        let sentence = warned(json!({ "timeout": "10m" }), Some(330)).unwrap();
        for words in ["is 10m,", "silent for 5m30s", "Lower spec.timeout", "ingress.readTimeout"] {
            assert!(sentence.contains(words), "{sentence}");
        }
        assert!(warned(json!({}), Some(60)).unwrap().contains("is 5m by default,"));
    }
}
