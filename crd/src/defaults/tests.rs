use serde_json::{Value, json};

use super::*;
use crate::agent::Agent;

/// The effective spec of an Agent with `fields` besides its image.
fn effective(fields: &Value) -> EffectiveSpec {
    let mut agent =
        json!({ "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": {}, "spec": fields });
    agent["spec"]["image"] = "example".into();
    Agent::from_value(agent).unwrap().spec.effective()
}

#[test]
fn an_image_is_enough() {
    assert_eq!(
        effective(&json!({})),
        EffectiveSpec {
            protocol: Protocol::A2a,
            mode: Mode::AlwaysOn,
            port: 8080,
            app_protocol: AppProtocol::Http,
            invocation_path: "/".to_owned(),
            upstream_host: UpstreamHost::Preserve,
            timeout: Duration::from_mins(5),
            max_duration: None,
            startup_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_mins(1),
            concurrency: NonZeroU32::new(8),
            max_standing_streams: 1000,
            idle_streams: IdleStreams::Hold,
            min_replicas: 1,
            max_replicas: 10,
            replicas: None,
            scale_to_zero_after: Duration::from_mins(5),
        }
    );
}

#[test]
fn what_is_written_is_kept() {
    let written = effective(&json!({
        "protocol": "mcp", "mode": "serverless", "port": 9000, "appProtocol": "h2c", "invocationPath": "/mcp",
        "upstreamHost": "preserve", "timeout": "1s", "maxDuration": "2s", "startupTimeout": "3s",
        "drainTimeout": "4s", "concurrency": 5, "maxStandingStreams": 6, "idleStreams": "release",
        "minReplicas": 7, "maxReplicas": 8, "replicas": 9, "scaleToZeroAfter": "10s",
    }));
    assert_eq!(
        written,
        EffectiveSpec {
            protocol: Protocol::Mcp,
            mode: Mode::Serverless,
            port: 9000,
            app_protocol: AppProtocol::H2c,
            invocation_path: "/mcp".to_owned(),
            upstream_host: UpstreamHost::Preserve,
            timeout: Duration::from_secs(1),
            max_duration: Some(Duration::from_secs(2)),
            startup_timeout: Duration::from_secs(3),
            drain_timeout: Duration::from_secs(4),
            concurrency: NonZeroU32::new(5),
            max_standing_streams: 6,
            idle_streams: IdleStreams::Release,
            min_replicas: 7,
            max_replicas: 8,
            replicas: Some(9),
            scale_to_zero_after: Duration::from_secs(10),
        }
    );
}

#[test]
fn mcp_agents_see_localhost_unless_told_otherwise() {
    assert_eq!(effective(&json!({ "protocol": "mcp" })).upstream_host, UpstreamHost::Localhost);
    assert_eq!(effective(&json!({ "protocol": "http" })).upstream_host, UpstreamHost::Preserve);
    assert_eq!(
        effective(&json!({ "protocol": "a2a", "upstreamHost": "localhost" })).upstream_host,
        UpstreamHost::Localhost
    );
}

#[test]
fn serverless_agents_go_to_zero_unless_told_otherwise() {
    assert_eq!(effective(&json!({ "mode": "serverless" })).min_replicas, 0);
    assert_eq!(effective(&json!({ "mode": "serverless", "minReplicas": 2 })).min_replicas, 2);
}

#[test]
fn zero_is_a_value() {
    assert_eq!(effective(&json!({ "minReplicas": 0 })).min_replicas, 0);
    assert_eq!(effective(&json!({ "replicas": 0 })).replicas, Some(0));
    assert_eq!(effective(&json!({ "concurrency": 0 })).concurrency, None);
    assert_eq!(effective(&json!({ "maxStandingStreams": 0 })).max_standing_streams, 0);
}

#[test]
fn the_maximum_is_never_below_the_minimum() {
    assert_eq!(effective(&json!({ "minReplicas": 12 })).max_replicas, 12);
    assert_eq!(effective(&json!({ "minReplicas": 3 })).max_replicas, 10);
    assert_eq!(effective(&json!({ "minReplicas": 5, "maxReplicas": 3 })).max_replicas, 5);
    assert_eq!(effective(&json!({ "mode": "serverless", "maxReplicas": 1 })).max_replicas, 1);
}
