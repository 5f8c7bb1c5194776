//! The last step of a look: the status is computed, and written where it says something new; Events are published.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use krypton_discovery::AgentKey;

use super::{
    Acceptance, AgentStatus, CallError, Deed, DeploymentState, Duration, Instant, Look, Request, Value,
    Wrote, events, json, keys, text,
};
use crate::programmed::ProgrammedState;
use crate::status::{Observation, PodState, build_status, needs_write, next_check, status_patch};

/// How long a new generation may be on its way to the gateways before that is told: it takes milliseconds, and each
/// telling is a write.
const ON_ITS_WAY: Duration = Duration::from_millis(1500);

/// The least time between two writes of one status: pods come up in bursts of changes.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// The least time before a status is written again that somebody else changed back: another controller writes it too.
const STATUS_FIGHT: Duration = Duration::from_mins(1);

impl Look<'_> {
    /// Writes the status if it says something new, and publishes what changed.
    pub(super) async fn tell(&mut self) -> Result<(), CallError> {
        let version = text(&self.family.agent, "/metadata/resourceVersion").to_owned();
        let seen_status = self.family.agent.get("status").cloned();
        let seen_status: Option<AgentStatus> =
            seen_status.and_then(|status| serde_json::from_value(status).ok());
        let memory = self.memory.status.clone();
        let before = memory.current(seen_status.as_ref(), &version);
        let generation =
            self.family.agent.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        self.memory.meet(generation, Instant::now());

        // First, and whatever becomes of the status: what was done was done.
        self.publish(before, before).await;
        let programmed = self.programmed(generation);
        let (after, check) = self.compute(before, generation, programmed);
        self.look_again(check);
        if !needs_write(before, &after) {
            self.memory.wrote = Wrote::Nothing;
            return Ok(());
        }
        if let Some(pause) = self.not_yet(before, &after, generation) {
            self.look_again(Some(pause));
            return Ok(());
        }
        let written = self.write(&after).await?;
        let now = Instant::now();
        self.told_invocation =
            before.and_then(|before| before.last_invocation_at.as_ref()) != after.last_invocation_at.as_ref();
        self.publish(before, Some(&after)).await;
        self.memory.status.wrote(after, &written, now);
        self.memory.wrote = Wrote::Nothing;
        Ok(())
    }

    /// The status as it should be, and when time alone may change it.
    fn compute(
        &self,
        before: Option<&AgentStatus>,
        generation: i64,
        programmed: ProgrammedState,
    ) -> (AgentStatus, Option<Duration>) {
        let id = &self.family.id;
        let now = Timestamp::now();
        let deployment = self.deployment.as_ref();
        let deployment = deployment.and_then(|live| serde_json::from_value(live.object().clone()).ok());
        let pods: Vec<PodState> = self.family.pods.iter().map(|pod| PodState::clone(pod)).collect();
        let observation = Observation {
            namespace: &id.namespace,
            name: &id.name,
            generation,
            spec: self.agent.as_ref().map(|agent| &agent.spec),
            before,
            acceptance: self.acceptance.clone(),
            wrote: self.memory.wrote,
            service: self.has_service(),
            deployment: deployment.as_ref().map(DeploymentState::from_deployment),
            pods: &pods,
            desired: self.size,
            programmed,
            ingress_read_timeout: self.reconciler.ingress_read_timeout,
            last_invocation: self.last_invocation,
            now,
        };
        let check = next_check(&observation).and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        (build_status(&observation), check)
    }

    fn has_service(&self) -> bool {
        let owner = text(&self.family.agent, "/metadata/uid");
        self.memory.service.live(self.family.service.as_ref()).is_some_and(|live| live.is_child_of(owner))
    }

    /// What the gateways hold; a route that is only on its way is asked for again.
    fn programmed(&mut self, generation: i64) -> ProgrammedState {
        let id = &self.family.id;
        let Ok(key) = AgentKey::new(&id.namespace, &id.name) else { return ProgrammedState::Unsettled };
        let state = self.reconciler.reports.programmed(&key, generation);
        let rest = ON_ITS_WAY.saturating_sub(self.memory.age(Instant::now()));
        if matches!(state, ProgrammedState::Pending { .. }) && !rest.is_zero() {
            self.look_again(Some(rest));
            return ProgrammedState::Unsettled;
        }
        state
    }

    /// How long to wait before the status is written; `None`: not at all.
    fn not_yet(
        &self,
        before: Option<&AgentStatus>,
        after: &AgentStatus,
        generation: i64,
    ) -> Option<Duration> {
        let now = Instant::now();
        let since_write = self.memory.status.last_write().map(|at| now.duration_since(at));
        let rest = |of: Duration, since: Option<Duration>| {
            since.map(|since| of.saturating_sub(since)).filter(|rest| !rest.is_zero())
        };
        if self.memory.status.is_undone(before, after) {
            // What is true has not changed since we wrote it.
            return rest(STATUS_FIGHT, since_write);
        }
        let told = before.and_then(|before| before.observed_generation) == Some(generation)
            || self.memory.status.has_told(generation);
        let age = self.memory.age(now);
        if !told
            && self.acceptance == Acceptance::Accepted
            && age < ON_ITS_WAY
            && !is_programmed(after, generation)
        {
            return rest(ON_ITS_WAY, Some(age));
        }
        rest(BETWEEN_WRITES, since_write).filter(|_| told)
    }

    /// Gives the Agent's new `resourceVersion`.
    async fn write(&self, status: &AgentStatus) -> Result<String, CallError> {
        let mut patch = status_patch(status);
        // An Agent of the same name that came after this one is not written.
        patch["metadata"] = json!({ "uid": self.family.agent["metadata"]["uid"] });
        let uri = format!("{}/status?fieldManager={}", self.path(), keys::FIELD_MANAGER);
        let request = Request::patch(uri).header("Content-Type", "application/merge-patch+json");
        let answer: Value = self.reconciler.api.call(request.body(patch.to_string().into_bytes())?).await?;
        Ok(text(&answer, "/metadata/resourceVersion").to_owned())
    }

    /// Events are for people: one that cannot be published is not tried again.
    async fn publish(&mut self, before: Option<&AgentStatus>, after: Option<&AgentStatus>) {
        let deeds: Vec<Deed> = std::mem::take(&mut self.deeds);
        let unchanged = AgentStatus::default();
        let told = match after {
            Some(after) => events::events(before, after, &deeds),
            None => events::events(Some(&unchanged), &unchanged, &deeds),
        };
        let told = self.memory.not_told_twice(after, told);
        if told.is_empty() {
            return;
        }
        let metadata = &self.family.agent["metadata"];
        let of = |field: &str| metadata[field].as_str().map(str::to_owned);
        let reference = ObjectReference {
            api_version: Some(keys::API_VERSION.to_owned()),
            kind: Some(keys::KIND.to_owned()),
            namespace: of("namespace"),
            name: of("name"),
            uid: of("uid"),
            resource_version: of("resourceVersion"),
            field_path: None,
        };
        for event in told {
            if !self.reconciler.api.may_call() {
                return;
            }
            let event = event.into();
            let published = self.reconciler.recorder.publish(&event, &reference);
            match tokio::time::timeout(super::api::CALL, published).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    log::debug!(agent:% = self.family.id, error:%; "An Event could not be published");
                }
                Err(_) => log::debug!(agent:% = self.family.id; "An Event could not be published in time"),
            }
        }
    }
}

fn is_programmed(status: &AgentStatus, generation: i64) -> bool {
    status.conditions.iter().any(|condition| {
        condition.type_ == "Programmed"
            && condition.status == "True"
            && condition.observed_generation == Some(generation)
    })
}
