//! How long a change in the API server takes until calls follow it, with a full table. Printed, not judged: an absolute
//! time is worth nothing on a shared machine.

use std::io::Write;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use http::StatusCode;
use krypton_e2e::bridge::Bridge;
use krypton_e2e::cluster::shared;
use serde_json::json;

use crate::objects::{agent, put};
use crate::support::{Krypton, SOON, apply_echo, get, instance, metric_becomes, path, ready, slice};

/// Agents beside the one that changes, each with a slice.
const AGENTS: u32 = 1_000;

/// Objects that are written at a time.
const WRITERS: usize = 16;

/// Changes that are timed.
const CHANGES: usize = 50;

#[tokio::test]
async fn a_changed_endpoint_is_used_soon_with_a_thousand_agents() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let first = instance(&bridge, 10, 0, "first").await;
    let second = instance(&bridge, 11, first.http.port(), "second").await;
    let test = cluster.with_namespace(async |namespace| {
        let objects = (0..AGENTS).flat_map(|n| {
            let name = format!("agent-{n}");
            [agent(&name, json!({})), slice(&name, &name, 8080, &[ready(bridge.address(12))])]
        });
        let writes = futures::stream::iter(objects.map(|object| put(namespace, object)));
        writes.buffer_unordered(WRITERS).try_collect::<Vec<_>>().await.unwrap();
        let krypton = Krypton::start(namespace).await;
        metric_becomes(krypton.controller.admin, "krypton_controller_agents", f64::from(AGENTS)).await;
        apply_echo(&krypton, namespace, &first, "first").await;

        let target = path(namespace, "echo");
        let (mut from_write, mut from_answer) = (Vec::new(), Vec::new());
        for pod in [&second, &first].into_iter().cycle().take(CHANGES) {
            let name = if pod.http == first.http { "first" } else { "second" };
            let change = slice("echo-1", "echo", pod.http.port(), &[ready(pod.http.ip())]);
            let written = Instant::now();
            put(namespace, change).await.unwrap();
            let answered = Instant::now();
            let deadline = answered + SOON;
            loop {
                let answer = get(krypton.gateway.http, &target).await.unwrap();
                // No call is lost on the way from one to the other.
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                if answer.by == name {
                    break;
                }
                assert!(Instant::now() < deadline, "{name} was not used within {SOON:?}");
            }
            from_write.push(written.elapsed());
            from_answer.push(answered.elapsed());
        }
        let agents = AGENTS + 1;
        // Not by `println!`, which the test harness keeps to itself when all is well.
        let report = format!(
            "{CHANGES} changes of an endpoint with {agents} agents, until a call used it:\n  \
             from the API server's answer to the write: {}\n  from the write being sent: {}\n",
            summary(from_answer),
            summary(from_write)
        );
        std::io::stderr().write_all(report.as_bytes()).unwrap();
    });
    test.await.unwrap();
}

fn summary(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let rank = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    format!("median {:.1?}, p99 {:.1?}", rank(50), rank(99))
}
