//! How many pods an Agent should have.

use krypton_crd::EffectiveSpec;

/// The size of an Agent's Deployment, from its spec and the size it has; `live` is `None` where there is no
/// Deployment yet.
///
/// A pinned size holds as it is, 0 included. Otherwise the Deployment is the only store of the size, so it keeps the
/// one it has as far as the bounds allow, and starts at the lower one. Nothing wakes a sleeping agent yet, so the
/// lower bound is 1 at least, whatever the mode.
#[must_use]
pub fn size(spec: &EffectiveSpec, live: Option<u32>) -> u32 {
    let fewest = spec.min_replicas.max(1);
    match (spec.replicas, live) {
        (Some(pinned), _) => pinned,
        (None, Some(live)) => live.min(spec.max_replicas).max(fewest),
        (None, None) => fewest,
    }
}

#[cfg(test)]
mod tests {
    use krypton_crd::Agent;
    use serde_json::{Value, json};

    use super::*;

    fn spec(mut fields: Value) -> EffectiveSpec {
        fields["image"] = "i".into();
        let agent = json!({
            "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": { "name": "a" }, "spec": fields,
        });
        Agent::from_value(agent).unwrap().spec.effective()
    }

    #[test]
    fn the_size_is_pinned_or_the_live_one_within_bounds() {
        for (fields, live, expected) in [
            (json!({}), None, 1),
            (json!({}), Some(0), 1),
            (json!({}), Some(4), 4),
            (json!({}), Some(11), 10),
            (json!({ "minReplicas": 3 }), None, 3),
            (json!({ "minReplicas": 3 }), Some(1), 3),
            (json!({ "minReplicas": 12 }), Some(20), 12),
            (json!({ "maxReplicas": 2 }), Some(5), 2),
            (json!({ "mode": "serverless" }), None, 1),
            (json!({ "mode": "serverless" }), Some(0), 1),
            (json!({ "mode": "serverless" }), Some(3), 3),
            (json!({ "mode": "serverless", "minReplicas": 2 }), None, 2),
            (json!({ "replicas": 0 }), None, 0),
            (json!({ "replicas": 0 }), Some(3), 0),
            (json!({ "replicas": 20 }), Some(3), 20),
        ] {
            assert_eq!(size(&spec(fields.clone()), live), expected, "{fields} {live:?}");
        }
    }
}
