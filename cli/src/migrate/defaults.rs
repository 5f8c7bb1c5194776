//! What the Go system's definition put into every Agent.

use std::time::Duration;

use krypton_crd::GoDuration;
use serde_json::Value;

/// A default of the Go system's that ours does not store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredDefault {
    /// Field of `spec`.
    pub(crate) field: &'static str,
    value: Stored,
}

#[derive(Debug, Clone, Copy)]
enum Stored {
    Seconds(u64),
    Number(u64),
    Text(&'static str),
}

/// All of them. Those of `imagePullPolicy`, `mode`, `port` and `protocol` are ours too and would come back at once.
pub(crate) const DEFAULTS: [StoredDefault; 7] = [
    StoredDefault { field: "concurrency", value: Stored::Number(8) },
    StoredDefault { field: "invocationPath", value: Stored::Text("/") },
    StoredDefault { field: "maxReplicas", value: Stored::Number(10) },
    StoredDefault { field: "minReplicas", value: Stored::Number(1) },
    StoredDefault { field: "scaleToZeroAfter", value: Stored::Seconds(300) },
    StoredDefault { field: "startupTimeout", value: Stored::Seconds(30) },
    StoredDefault { field: "timeout", value: Stored::Seconds(60) },
];

// === impl StoredDefault ===

impl StoredDefault {
    /// Whether `value` is this default, however a duration is spelled: the Go system's client writes 5m0s for 300s.
    pub(crate) fn is(self, value: &Value) -> bool {
        match self.value {
            Stored::Number(number) => value.as_u64() == Some(number),
            Stored::Text(text) => value == text,
            Stored::Seconds(seconds) => {
                let written = value.as_str().and_then(|text| text.parse::<GoDuration>().ok());
                written.is_some_and(|written| written.get() == Duration::from_secs(seconds))
            }
        }
    }

    /// Whether `value` is a duration of zero, which the Go system's client wrote for one that was not set.
    pub(crate) fn is_zero(self, value: &Value) -> bool {
        matches!(self.value, Stored::Seconds(_)) && matches!(value.as_str(), Some("0s" | "0"))
    }

    /// What holds once it is gone, where that is something else.
    pub(crate) fn then(self, mode: &str) -> Option<&'static str> {
        match (self.field, mode) {
            ("timeout", _) => Some("300s, of silence"),
            ("minReplicas", "serverless") => Some("0"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use krypton_crd::{AgentSpec, Mode};
    use serde_json::json;

    use super::*;

    fn of(field: &str) -> StoredDefault {
        DEFAULTS.into_iter().find(|default| default.field == field).unwrap()
    }

    #[test]
    fn a_duration_is_recognised_however_it_is_spelled() {
        for spelled in ["60s", "1m0s", "1m", "60000ms"] {
            assert!(of("timeout").is(&json!(spelled)), "{spelled}");
        }
        for other in [json!("61s"), json!("0s"), json!(60), json!("x"), json!(null)] {
            assert!(!of("timeout").is(&other), "{other}");
        }
        assert!(of("timeout").is_zero(&json!("0s")) && !of("minReplicas").is_zero(&json!(0)));
        assert!(of("minReplicas").is(&json!(1)) && !of("minReplicas").is(&json!("1")));
    }

    /// What is said to hold from then on is what the effective spec says.
    #[test]
    fn what_holds_then_is_true() {
        for mode in [Mode::AlwaysOn, Mode::Serverless] {
            let spec: AgentSpec = serde_json::from_value(json!({ "image": "a:1", "mode": mode })).unwrap();
            let effective = spec.effective();
            let word = serde_json::to_value(mode).unwrap();
            let word = word.as_str().unwrap();
            assert_eq!(effective.timeout, Duration::from_mins(5));
            let minimum = of("minReplicas").then(word).unwrap_or("1");
            assert_eq!(effective.min_replicas.to_string(), minimum);
            assert_eq!(effective.concurrency.unwrap().get(), 8);
            assert_eq!(effective.max_replicas, 10);
            assert_eq!(effective.invocation_path, "/");
            assert_eq!(effective.scale_to_zero_after, Duration::from_mins(5));
            assert_eq!(effective.startup_timeout, Duration::from_secs(30));
        }
    }
}
