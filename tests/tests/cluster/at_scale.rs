//! A thousand Agents: how long it takes until all is made and told, what it costs the API server, and that nothing is
//! written once all is as it should be. The figures are printed.
//!
//! Nearly all have no pods, as nobody would run them here; what is written of an Agent by this controller is the same.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use krypton_crd::Agent;
use krypton_e2e::audit::{AuditLog, Call};
use krypton_e2e::cluster::Namespace;
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;

use crate::objects::{agent, put};
use crate::rbac::{Reach, Rights};
use crate::statuses::condition_becomes;
use crate::support::{is_ready, metric, metric_becomes};

/// Every so many has a pod.
const WITH_POD: usize = 50;

/// Objects that are written at a time by the test.
const WRITERS: usize = 8;

/// It takes some 20 s on two idle cores.
const LONG: Duration = Duration::from_mins(3);

/// Writes for each Agent that nobody would call a few: three children, a status, and Events.
const MOST_WRITES: f64 = 8.0;

/// The namespace, and the record of what the controller does in it.
struct Place<'a> {
    audit: &'a AuditLog,
    namespace: &'a Namespace,
    agents: usize,
}

// === impl Place ===

impl Place<'_> {
    async fn start_controller(&self, args: &[&str]) -> Controller {
        let own = ["--namespace", self.namespace.name(), "--lease-namespace", self.namespace.name()];
        let args: Vec<&str> = own.iter().chain(args).copied().collect();
        Controller::start_on_cluster(self.audit.kubeconfig(), &args).await.unwrap()
    }

    async fn put_all(&self) {
        let agents = (0..self.agents).map(|number| {
            let pods = u32::from(number % WITH_POD == 0);
            put(self.namespace, agent(&format!("agent-{number}"), json!({ "replicas": pods })))
        });
        futures::stream::iter(agents).buffer_unordered(WRITERS).try_collect::<Vec<_>>().await.unwrap();
    }

    /// Waits until every Agent has been looked at, has a current status, and the gateway has its route.
    async fn are_told(&self, controller: &Controller) {
        let agents: Api<Agent> = self.namespace.api();
        eventually("every Agent is told", LONG, async || {
            // Asked first, as it costs nothing: the list is of megabytes.
            nothing_waits(controller).await?;
            let list = agents.list(&ListParams::default()).await?;
            let told = list.iter().filter(|agent| is_told(agent)).count();
            ensure!(told == self.agents, "{told} of {}", self.agents);
            Ok(())
        })
        .await
        .unwrap();
    }

    /// Writes so far, but for the Lease.
    fn writes(&self) -> Vec<Call> {
        let calls = self.audit.calls().unwrap();
        calls.into_iter().filter(|call| call.is_write() && call.resource != "leases").collect()
    }

    /// Nothing was written since there were `before` writes, but for the new Agent `name`, which shows that the
    /// controller works.
    async fn only_new_is_written(&self, controller: &Controller, name: &str, before: usize) {
        put(self.namespace, agent(name, json!({ "replicas": 0 }))).await.unwrap();
        condition_becomes(self.namespace, name, "Programmed", "True", "Programmed").await;
        eventually("nothing waits", LONG, async || nothing_waits(controller).await).await.unwrap();
        // Events are called after their Agent.
        let event = format!("{name}.");
        let others: Vec<_> = self.writes().split_off(before);
        let others: Vec<_> =
            others.iter().filter(|call| call.name != name && !call.name.starts_with(&event)).collect();
        assert!(others.is_empty(), "{} writes: {:#?}", others.len(), &others[..others.len().min(10)]);
    }
}

/// Its pods, which Kubernetes makes in its own time, are told of too: nothing is left to write.
fn is_told(agent: &Agent) -> bool {
    let Some(status) = &agent.status else { return false };
    status.observed_generation == agent.metadata.generation
        && status.replicas == status.desired_replicas
        && status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Programmed" && condition.status == "True")
}

/// The leader has looked at all Agents, and none is to be looked at again.
async fn nothing_waits(controller: &Controller) -> Result<()> {
    for kind in ["Agent", "Deployment", "Service", "ServiceAccount", "Pod"] {
        let series = format!("krypton_controller_workload_source_up{{kind=\"{kind}\"}}");
        ensure!(metric(controller.admin, &series).await? > 0.0, "{series}");
    }
    let waiting = metric(controller.admin, "krypton_controller_reconcile_waiting").await?;
    ensure!(waiting < 1.0, "{waiting} wait");
    Ok(())
}

/// Resident memory now and at its highest, in MiB.
fn memory(controller: &Controller) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", controller.process.pid())).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// How often each kind of write was done.
fn tally(writes: &[Call]) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for call in writes {
        *tally.entry(format!("{} {} {}", call.verb, call.resource, call.code)).or_default() += 1;
    }
    tally
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn print_and_judge(agents: usize, writes: &[Call], took: Duration, (now, highest): (u64, u64)) {
    let each = writes.len() as f64 / agents as f64;
    println!("{agents} Agents in {took:.1?}, {each:.2} writes each; memory {now} MiB, {highest} MiB at most");
    println!("{:#?}", tally(writes));
    assert!(each <= MOST_WRITES, "{each} writes an Agent");
}

#[tokio::test]
async fn a_thousand_agents_cost_a_few_writes_each_and_none_once_all_is_done() {
    are_made_and_left_alone(1000, &[]).await;
}

/// Items of a classic list are not the same JSON as the objects that a watch shows.
#[tokio::test]
async fn nor_are_any_written_where_lists_are_not_streamed() {
    are_made_and_left_alone(50, &["--feature-gates=WatchList=false"]).await;
}

async fn are_made_and_left_alone(agents: usize, flags: &[&str]) {
    let (control_plane, audit) = ControlPlane::start_audited(flags).await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        Rights::of_the_chart().grant(Reach::Namespace, namespace, namespace).await;
        let place = Place { audit: &audit, namespace, agents };
        place.put_all().await;

        let begun = Instant::now();
        let mut controller = place.start_controller(&[]).await;
        let gateway = Gateway::start(controller.discovery, &["--node-id", "first"]).await.unwrap();
        place.are_told(&controller).await;
        let took = begun.elapsed();
        print_and_judge(agents, &place.writes(), took, memory(&controller));

        let before = place.writes().len();
        controller.process.terminate();
        controller.process.ended(LONG).await.unwrap();
        let discovery = controller.discovery.to_string();
        let controller = place.start_controller(&["--discovery-listen", &discovery]).await;
        metric_becomes(controller.admin, "krypton_controller_report_members", 1.0).await;
        eventually("nothing waits", LONG, async || nothing_waits(&controller).await).await.unwrap();
        place.only_new_is_written(&controller, "new", before).await;

        let before = place.writes().len();
        drop(gateway);
        metric_becomes(controller.admin, "krypton_controller_report_members", 0.0).await;
        let gateway = Gateway::start(controller.discovery, &["--node-id", "second"]).await.unwrap();
        is_ready(&gateway).await;
        metric_becomes(controller.admin, "krypton_controller_report_members", 1.0).await;
        place.only_new_is_written(&controller, "newer", before).await;
    });
    test.await.unwrap();
}
