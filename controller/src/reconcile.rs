//! One look at one Agent: makes its children as they are wanted, and says in its status what is true.
//!
//! Owns the order of the steps. What is wanted is built by [`workload`](crate::workload), what is to be done about a
//! child decided by [`plan`], what a status says by [`status`](crate::status): all pure. Never looks at an Agent twice
//! at once, which the queue sees to, and never outside a term of leadership.
//!
//! 1. The Go controller's finalizer is taken away wherever it is met.
//! 2. The Agent is decoded; what is wrong with it is told, and its children stay as they are.
//! 3. Its children are made as they are wanted: the service account first, which pods need, the Deployment last.
//! 4. Its status is written where it says something new, and what changed is published as Events ([`tell`]).

pub(crate) mod api;
pub(crate) mod children;
pub(crate) mod live;
pub(crate) mod memory;
pub(crate) mod plan;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use krypton_crd::conditions::AcceptedReason;
use krypton_crd::validate::validate;
use krypton_crd::{Agent, AgentStatus, DecodeError, keys};
use kube::Client;
use kube::runtime::events::Recorder;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::leader::fleet::Family;
use crate::leader::queue::Finished;
use crate::lease::Term;
use crate::metrics::Metrics;
use crate::object::{Kind, ObjectId};
use crate::report::Reports;
use crate::status::events::{self, Deed};
use crate::status::{Acceptance, DeploymentState, LastInvocation, Wrote};
use crate::workload::{Children, build_children, size};
use api::{Api, CallError};
use children::{Child, ChildProblem, Did, Synced};
use live::Live;
use memory::Memory;
use plan::{TRUCE, Why};

/// Looks at Agents, each with what is remembered of it.
pub(crate) struct Reconciler {
    api: Api,
    reports: Reports,
    recorder: Recorder,
    metrics: Arc<Metrics>,
    /// What the ingress in front cuts silence at.
    ingress_read_timeout: Option<Duration>,
}

/// A look that has ended.
pub(crate) struct Reconciled {
    pub(crate) agent: ObjectId,
    pub(crate) memory: Memory,
    pub(crate) finished: Finished,
    /// Whether the time of the last call was written.
    pub(crate) told_invocation: bool,
}

/// A look that is under way.
struct Look<'a> {
    reconciler: &'a Reconciler,
    family: &'a Family,
    memory: Memory,
    last_invocation: Option<LastInvocation>,
    /// The Agent, or why it does not decode.
    agent: Result<Agent, DecodeError>,
    /// What was done, to be told as Events.
    deeds: Vec<Deed>,
    acceptance: Acceptance,
    /// The Deployment as it is after this look, if it is the Agent's own.
    deployment: Option<Arc<Live>>,
    /// Pods that there are to be.
    size: Option<u32>,
    /// When to look again, at the latest.
    again: Option<Duration>,
    /// A call that failed and is to be tried again.
    failure: Option<CallError>,
    told_invocation: bool,
}

// === impl Reconciler ===

impl Reconciler {
    /// One that writes through `client` while `term` lasts, and publishes Events by `recorder`.
    pub(crate) fn new(
        client: Client,
        term: Option<Term>,
        reports: Reports,
        recorder: Recorder,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { api: Api::new(client, term), reports, recorder, metrics, ingress_read_timeout: None }
    }

    /// Warns of Agents that may be silent for as long as the ingress waits.
    pub(crate) fn behind_ingress(self, read_timeout: Option<Duration>) -> Self {
        Self { ingress_read_timeout: read_timeout, ..self }
    }

    /// Looks at an Agent and all that belongs to it.
    pub(crate) async fn look(
        &self,
        family: Family,
        memory: Memory,
        last_invocation: Option<LastInvocation>,
    ) -> Reconciled {
        let uid = text(&family.agent, "/metadata/uid");
        let mut look = Look {
            reconciler: self,
            family: &family,
            memory: memory.of(uid),
            last_invocation,
            agent: Agent::from_value(Value::clone(&family.agent)),
            deeds: Vec::new(),
            acceptance: Acceptance::Accepted,
            deployment: family.deployment.clone().filter(|live| live.is_child_of(uid)),
            size: None,
            again: None,
            failure: None,
            told_invocation: false,
        };
        if let Err(error) = look.run().await {
            look.failure.get_or_insert(error);
        }
        look.end()
    }
}

// === impl Look ===

impl Look<'_> {
    async fn run(&mut self) -> Result<(), CallError> {
        let deleting = self.family.agent.pointer("/metadata/deletionTimestamp").is_some();
        self.drop_finalizer(deleting).await;
        if deleting {
            // Kubernetes takes the children away, and nobody reads the status any more.
            return Ok(());
        }
        match (validate(&self.family.agent, None).refusal(), self.agent.clone()) {
            (Some(refusal), _) => self.refuse(refusal.reason, refusal.message),
            (None, Ok(agent)) => self.make_children(&agent).await,
            (None, Err(error)) => self.refuse(AcceptedReason::InvalidSpec, error.to_string()),
        }
        self.tell().await
    }

    /// It guards nothing, and would keep the Agent from going away where the Go controller is gone. Where that one
    /// still runs it puts it back at once; then it is taken away again after a while only, or when the Agent is to go.
    async fn drop_finalizer(&mut self, deleting: bool) {
        let agent = &self.family.agent;
        let all = agent.pointer("/metadata/finalizers").and_then(Value::as_array);
        let Some(all) = all.filter(|all| all.iter().any(|finalizer| finalizer == keys::FINALIZER)) else {
            return;
        };
        let (now, version) = (Instant::now(), agent["metadata"]["resourceVersion"].clone());
        let rest = self.memory.finalizer_dropped.map(|at| TRUCE.saturating_sub(now.duration_since(at)));
        if let Some(rest) = rest.filter(|rest| !deleting && !rest.is_zero()) {
            return self.look_again(Some(rest));
        }
        let others: Vec<_> = all.iter().filter(|finalizer| *finalizer != keys::FINALIZER).collect();
        let patch = json!([
            { "op": "test", "path": "/metadata/resourceVersion", "value": version },
            { "op": "replace", "path": "/metadata/finalizers", "value": others },
        ]);
        let uri = format!("{}?fieldManager={}", self.path(), keys::FIELD_MANAGER);
        let request = Request::patch(uri).header("Content-Type", "application/json-patch+json");
        let written = match request.body(patch.to_string().into_bytes()) {
            Ok(request) => self.reconciler.api.call::<Value>(request).await.map(drop),
            Err(error) => Err(error.into()),
        };
        match written {
            Ok(()) => {
                self.memory.finalizer_dropped = Some(now);
                self.deeds.push(Deed::FinalizerRemoved);
            }
            // The rest of the look does not depend on it.
            Err(error) => {
                self.failure.get_or_insert(error);
            }
        }
    }

    async fn make_children(&mut self, agent: &Agent) {
        let spec = agent.spec.effective();
        let owner = text(&self.family.agent, "/metadata/uid");
        let live = self.memory.deployment.live(self.family.deployment.as_ref());
        let live = live.filter(|live| live.is_child_of(owner)).and_then(|live| live.replicas());
        let size = size(&spec, self.memory.size.or(live));
        self.size = Some(size);
        let wanted = match build_children(agent, &spec, size) {
            Ok(wanted) => wanted,
            Err(error) => return self.refuse(AcceptedReason::InvalidPodTemplate, error.to_string()),
        };
        let Children { service_account, service, deployment } = wanted;
        let (mut created, mut taken_over) = (Vec::new(), Vec::new());
        let all = [
            (events::Child::ServiceAccount, service_account),
            (events::Child::Service, Some(service)),
            (events::Child::Deployment, Some(deployment)),
        ];
        for (kind, wanted) in all {
            let Some(wanted) = wanted else { continue };
            let did = self.make_child(kind, &wanted).await;
            let foreign =
                matches!(&self.acceptance, Acceptance::Refused { reason: AcceptedReason::NameConflict, .. });
            match did {
                Some(Did::Created) => created.push(kind),
                Some(Did::Applied { why: Why::TakenOver, .. }) => taken_over.push(kind),
                Some(Did::Applied { why, by }) => self.note(kind, &why, by),
                // Pods under somebody else's account would have its rights, and none would be called by way of somebody
                // else's Service. What ran before goes on running.
                None if foreign => break,
                None => {}
            }
        }
        // Before the Deployment exists there is nothing that a size was decided for.
        if self.deployment.is_some() {
            self.memory.size = Some(size);
        }
        for deed in [Deed::Created(created), Deed::TakenOver(taken_over)] {
            if !matches!(&deed, Deed::Created(children) | Deed::TakenOver(children) if children.is_empty()) {
                self.deeds.push(deed);
            }
        }
    }

    /// Makes one child as it is wanted; says what was done.
    async fn make_child(&mut self, kind: events::Child, wanted: &Value) -> Option<Did> {
        let (family, memory) = (self.family, &mut self.memory);
        let (object, seen, known) = match kind {
            events::Child::ServiceAccount => {
                (Kind::ServiceAccount, &family.service_account, &mut memory.service_account)
            }
            events::Child::Service => (Kind::Service, &family.service, &mut memory.service),
            events::Child::Deployment => (Kind::Deployment, &family.deployment, &mut memory.deployment),
        };
        let owner = text(&family.agent, "/metadata/uid");
        let child = Child { kind: object, id: &family.id, owner, wanted };
        let failed_before = memory.failing;
        let Synced { live, did, problem, again, vanishing } =
            match child.sync(&self.reconciler.api, seen.as_ref(), known).await {
                Ok(synced) => synced,
                Err(error) => {
                    // A first failure may pass by itself, and telling it would cost two writes and a Warning.
                    match error.told().filter(|_| failed_before) {
                        Some(message) => {
                            self.refuse(
                                AcceptedReason::WriteRefused,
                                format!("The {kind} cannot be written: {message}"),
                            );
                        }
                        None if self.acceptance == Acceptance::Accepted => {
                            self.acceptance = Acceptance::Unsettled;
                        }
                        None => {}
                    }
                    self.failure.get_or_insert(error);
                    return None;
                }
            };
        self.look_again(again);
        if vanishing && self.acceptance == Acceptance::Accepted {
            self.acceptance = Acceptance::Unsettled;
        }
        if let Some(problem) = problem {
            let (reason, message) = told(kind, &family.id, problem);
            self.refuse(reason, message);
        }
        if kind == events::Child::Deployment {
            self.note_template(live.as_deref(), did.as_ref());
            self.deployment = live;
        }
        did
    }

    /// What a person is told of a change to a child.
    fn note(&mut self, child: events::Child, why: &Why, manager: Option<String>) {
        let field = match why {
            Why::Repaired(path) => path.to_string(),
            Why::ForeignReplicas => "spec.replicas".to_owned(),
            Why::Changed | Why::Resized | Why::TakenOver => return,
        };
        self.deeds.push(Deed::Repaired { child, field, manager });
    }

    /// Remembers, until it is told, that the pods are about to be replaced, or their number to change.
    fn note_template(&mut self, after: Option<&Live>, did: Option<&Did>) {
        let Some(did) = did else { return };
        let template = |live: &Live| live.object().pointer("/spec/template").cloned();
        let before = self.deployment.as_deref();
        let same =
            before.is_some_and(|before| after.is_some_and(|after| template(before) == template(after)));
        if *did == Did::Created || !same {
            self.memory.wrote = Wrote::Template;
        } else if self.memory.wrote == Wrote::Nothing {
            self.memory.wrote = Wrote::NotTheTemplate;
        }
        let size = |live: Option<&Live>| live.and_then(Live::replicas);
        if let (Some(from), Some(to)) = (size(before), size(after))
            && from != to
            && !matches!(did, Did::Applied { why: Why::ForeignReplicas, .. })
        {
            self.deeds.push(Deed::Scaled { from, to });
        }
    }

    /// The first reason stays: it is of the child that the others need.
    fn refuse(&mut self, reason: AcceptedReason, message: String) {
        if !matches!(self.acceptance, Acceptance::Refused { .. }) {
            self.acceptance = Acceptance::Refused { reason, message };
        }
    }

    fn look_again(&mut self, after: Option<Duration>) {
        self.again = self.again.into_iter().chain(after).min();
    }

    fn path(&self) -> String {
        let ObjectId { namespace, name } = &self.family.id;
        format!("/apis/{}/namespaces/{namespace}/agents/{name}", keys::API_VERSION)
    }

    fn end(self) -> Reconciled {
        let Self { family, mut memory, again, failure, told_invocation, reconciler, .. } = self;
        let failed_before = std::mem::replace(&mut memory.failing, failure.is_some());
        let finished = match failure {
            None => Finished::Done(again),
            Some(error) => {
                reconciler.metrics.count_reconcile_failure();
                // That there is no way to the API server, the watches tell.
                let worth_a_line = !failed_before && error.told().is_some();
                let level = if worth_a_line { log::Level::Warn } else { log::Level::Debug };
                log::log!(level, agent:% = family.id, error:%; "Could not look after an Agent; it is tried again");
                Finished::Failed
            }
        };
        Reconciled { agent: family.id.clone(), memory, finished, told_invocation }
    }
}

/// The reason and the sentence for a child that is not as wanted.
fn told(kind: events::Child, id: &ObjectId, problem: ChildProblem) -> (AcceptedReason, String) {
    match problem {
        ChildProblem::Foreign if kind == events::Child::ServiceAccount => (
            AcceptedReason::NameConflict,
            format!(
                "A {kind} called {} exists in namespace {} and is not this Agent's. It is not touched. Name the account \
                 that the pods are to have in spec.serviceAccountName, this one or another, or give the Agent another \
                 name.",
                id.name, id.namespace
            ),
        ),
        ChildProblem::Foreign => (
            AcceptedReason::NameConflict,
            format!(
                "A {kind} called {} exists in namespace {} and is not this Agent's. It is not touched. Delete or rename \
                 it, or give the Agent another name.",
                id.name, id.namespace
            ),
        ),
        ChildProblem::Contested { manager } => (
            AcceptedReason::AnotherController,
            format!(
                "The field manager {manager:?} keeps changing the {kind} {}. It is left as it is. Stop that writer: if it \
                 is Krypton's Go controller ({}), scale its Deployment to 0.",
                id.name,
                keys::GO_FIELD_MANAGERS.join(" or ")
            ),
        ),
        ChildProblem::Invalid(message) => {
            (AcceptedReason::InvalidPodTemplate, format!("The API server refuses the {kind}: {message}"))
        }
        ChildProblem::Refused(message) => {
            (AcceptedReason::WriteRefused, format!("The API server refuses the {kind} now: {message}"))
        }
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
