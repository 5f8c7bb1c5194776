//! What only the leader does: runs the workloads of Agents and tells their statuses.
//!
//! Owns the watches, the fleet and the queue of one term, in one task; nothing of them outlives the term, and the next
//! leader begins from what the cluster says. Never touches routes: those every controller computes by itself.
//!
//! 1. [`fleet`] takes in what the watches see, and notes which Agents it touches.
//! 2. [`queue`] puts those in order, with the ones that are to be looked at again and those that failed.
//! 3. [`reconcile`](crate::reconcile) looks at up to [`CONCURRENCY`] of them at a time, each with what is remembered
//!    of it.

pub(crate) mod fleet;
pub(crate) mod queue;

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use krypton_crd::{Agent, keys};
use krypton_discovery::{AgentKey, EndpointPolicy};
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use crate::lease::Term;
use crate::metrics::Metrics;
use crate::object::{Kind, ObjectId, Scope};
use crate::reconcile::memory::Memory;
use crate::reconcile::{Reconciled, Reconciler};
use crate::report::Reports;
use crate::source::kube::watch::Feed;
use crate::source::{EVENT_CAPACITY, Purpose, Sources};
use crate::status::events::Child;
use crate::status::{Due, InvocationLimiter, LastInvocation};
use fleet::{Fleet, FleetEvent};
use queue::{Finished, Queue};

/// Agents that are looked at at a time. The API server gives a client some dozens of calls at once before it makes it
/// wait (API priority and fairness), and the controllers of Kubernetes run 5 to 10 workers each.
const CONCURRENCY: usize = 8;

/// Between two looks at which Agents had calls: gateways report their load about once a second.
const CALLED: Duration = Duration::from_secs(1);

/// The leader's work, the same for every term.
#[derive(Clone)]
pub struct Leader {
    client: Client,
    scopes: Vec<Scope>,
    metrics: Arc<Metrics>,
    reports: Reports,
    /// Published Events, which repetitions are counted in, also over terms.
    recorder: Recorder,
    ingress_read_timeout: Option<Duration>,
}

/// The state of one term.
struct Work<'a> {
    leader: &'a Leader,
    reconciler: Arc<Reconciler>,
    fleet: Fleet,
    queue: Queue,
    /// What is remembered of each Agent; that of one being looked at is with the look.
    memories: HashMap<ObjectId, Memory>,
    /// When the time of a last call is worth a write.
    invocations: InvocationLimiter,
    /// Agents with calls that their status does not tell yet, and that are in the queue for it.
    called: HashSet<ObjectId>,
}

// === impl Leader ===

impl Leader {
    /// The work in `scopes`, through `client`; Events say that they are of the controller `instance`.
    #[must_use]
    pub fn new(
        client: Client,
        scopes: Vec<Scope>,
        metrics: Arc<Metrics>,
        reports: Reports,
        instance: String,
    ) -> Self {
        let reporter = Reporter { controller: keys::FIELD_MANAGER.to_owned(), instance: Some(instance) };
        let recorder = Recorder::new(client.clone(), reporter);
        Self { client, scopes, metrics, reports, recorder, ingress_read_timeout: None }
    }

    /// Warns of Agents that may be silent for as long as the ingress waits: its read timeout, where that is known.
    #[must_use]
    pub fn behind_ingress(self, read_timeout: Option<Duration>) -> Self {
        Self { ingress_read_timeout: read_timeout, ..self }
    }

    /// Works for one term, at whose end it is dropped, with what is under way: every call may be lost, and the next
    /// leader sees what became of it.
    pub async fn lead(&self, term: Term) -> Infallible {
        let reconciler = Reconciler::new(
            self.client.clone(),
            Some(term),
            self.reports.clone(),
            self.recorder.clone(),
            Arc::clone(&self.metrics),
        )
        .behind_ingress(self.ingress_read_timeout);
        let (events, received) = mpsc::channel(EVENT_CAPACITY);
        let sources = Sources::new(Purpose::Workloads, Arc::clone(&self.metrics));
        let policy = EndpointPolicy { allow_loopback: false, deny: Vec::new() };
        let feed = Feed { client: self.client.clone(), policy, events, sources };
        let state = Work {
            leader: self,
            reconciler: Arc::new(reconciler),
            fleet: Fleet::new(&self.scopes),
            queue: Queue::default(),
            memories: HashMap::new(),
            invocations: InvocationLimiter::default(),
            called: HashSet::new(),
        };
        tokio::select! {
            () = self.watch(feed) => {}
            () = state.run(received) => {}
        }
        // The watches end when nobody takes their events, and the work when nobody sends any: neither comes first.
        std::future::pending().await
    }

    /// Follows every kind in each scope.
    async fn watch(&self, feed: Feed<FleetEvent>) {
        let label = Some(keys::AGENT_LABEL);
        let watches = self.scopes.iter().map(|scope| async {
            let agents = feed.watch::<Agent, _>(Kind::Agent, scope, None, fleet::agent, FleetEvent::Agents);
            let deployments = feed.watch::<Deployment, _>(
                Kind::Deployment,
                scope,
                label,
                fleet::child::<Deployment>,
                |change| FleetEvent::Children(Child::Deployment, change),
            );
            let services =
                feed.watch::<Service, _>(Kind::Service, scope, label, fleet::child::<Service>, |change| {
                    FleetEvent::Children(Child::Service, change)
                });
            let accounts = feed.watch::<ServiceAccount, _>(
                Kind::ServiceAccount,
                scope,
                label,
                fleet::child::<ServiceAccount>,
                |change| FleetEvent::Children(Child::ServiceAccount, change),
            );
            let pods = feed.watch::<Pod, _>(Kind::Pod, scope, label, fleet::pod, FleetEvent::Pods);
            tokio::join!(agents.run(), deployments.run(), services.run(), accounts.run(), pods.run());
        });
        join_all(watches).await;
    }
}

// === impl Work ===

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.leader.metrics.set_reconciling(0, 0);
    }
}

impl Work<'_> {
    async fn run(mut self, mut events: mpsc::Receiver<FleetEvent>) {
        let mut batch = Vec::with_capacity(EVENT_CAPACITY);
        let reconciler = Arc::clone(&self.reconciler);
        let mut looks = FuturesUnordered::new();
        let mut calls = tokio::time::interval(CALLED);
        calls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while self.fleet.is_complete()
                && looks.len() < CONCURRENCY
                && let Some(agent) = self.queue.pop(Instant::now())
            {
                let memory = self.memories.remove(&agent).unwrap_or_default();
                let Some(family) = self.fleet.family(&agent) else {
                    self.forget(&agent);
                    continue;
                };
                let last_invocation = self.last_invocation(&agent);
                looks.push(reconciler.look(family, memory, last_invocation));
            }
            let (waiting, failing) = self.queue.depth();
            self.leader.metrics.set_reconciling(waiting, failing);
            let due = self.queue.next_due().filter(|_| self.fleet.is_complete() && looks.len() < CONCURRENCY);
            tokio::select! {
                count = events.recv_many(&mut batch, EVENT_CAPACITY) => {
                    if count == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|event| self.fleet.apply(event));
                    self.ask(Instant::now());
                }
                Some(look) = looks.next() => self.finish(look),
                agents = self.leader.reports.changed() => {
                    let now = Instant::now();
                    for agent in &agents {
                        self.queue.add(id_of(agent), now);
                    }
                }
                _ = calls.tick() => self.take_called(),
                () = sleep_until(due) => {}
            }
        }
    }

    /// Asks for what the watches touched.
    fn ask(&mut self, now: Instant) {
        for agent in self.fleet.take_touched() {
            self.queue.add(agent, now);
        }
    }

    /// Asks for Agents that had calls. One that waits for its time to be told is asked for already.
    fn take_called(&mut self) {
        let now = Instant::now();
        for agent in self.leader.reports.take_called() {
            let id = id_of(&agent);
            if self.called.insert(id.clone()) {
                self.queue.add(id, now);
            }
        }
    }

    /// The time of the last call that the status of `agent` does not tell yet, and whether it is worth a write.
    fn last_invocation(&mut self, agent: &ObjectId) -> Option<LastInvocation> {
        let key = AgentKey::new(&agent.namespace, &agent.name).ok()?;
        let seen = self.leader.reports.last_invocation(&key)?;
        let (at, now) = (Timestamp::try_from(seen).ok()?, Timestamp::now());
        let due = self.invocations.admit(&key, self.fleet.last_invocation(agent), at, now);
        match due {
            Due::At(next) => {
                // Still in `called`: further calls ask for nothing before then.
                let pause = Duration::try_from(next.duration_since(now)).unwrap_or(CALLED);
                self.called.insert(agent.clone());
                self.queue.add(agent.clone(), Instant::now() + pause);
            }
            Due::Now | Due::Never => {
                self.called.remove(agent);
            }
        }
        (due != Due::Never).then_some(LastInvocation { at, due: due == Due::Now })
    }

    fn finish(&mut self, look: Reconciled) {
        let Reconciled { agent, memory, finished, told_invocation } = look;
        if told_invocation && let Ok(key) = AgentKey::new(&agent.namespace, &agent.name) {
            self.invocations.note_written(&key, Timestamp::now());
        }
        self.queue.finish(&agent, finished, Instant::now(), fastrand::f64());
        self.memories.insert(agent, memory);
    }

    /// The Agent is gone, and Kubernetes takes its children away.
    fn forget(&mut self, agent: &ObjectId) {
        self.queue.finish(agent, Finished::Done(None), Instant::now(), 0.0);
        self.queue.forget(agent);
        self.memories.remove(agent);
        self.called.remove(agent);
        if let Ok(key) = AgentKey::new(&agent.namespace, &agent.name) {
            self.invocations.forget(&key);
        }
    }
}

fn id_of(agent: &AgentKey) -> ObjectId {
    ObjectId::new(agent.namespace(), agent.name())
}

/// Waits until then; for ever if nothing is due.
async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
