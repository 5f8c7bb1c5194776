//! What gateways tell the controller that leads: what they hold, and how busy they are.
//!
//! Owns the gateways that report and all that they said, which is lost with the term: a new leader hears it anew,
//! with the last minute of load. Never writes anything, and decides nothing: [`crate::programmed`] compares, the
//! writer of the status asks.
//!
//! 1. `Discovery` passes each `Report` stream on to [`Reports::accept`], which refuses it where this controller does
//!    not lead.
//! 2. Its task (module `stream`) listens: a gateway that has told all that it holds is a member until its stream
//!    ends. Of two streams with one name the newer counts.
//! 3. [`Reports::run`] follows snapshots and terms.
//! 4. The writer of the status waits in [`Reports::changed`] and asks [`Reports::programmed`], and reads
//!    [`Reports::take_called`] when it may write.

mod calls;
mod session;
mod stream;
mod summary;
mod takeovers;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use krypton_discovery::AgentKey;
use krypton_discovery::wire::{ReportRequest, ReportResponse};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

use crate::discovery::{Limits, TooManyGateways};
use crate::metrics::Metrics;
use crate::programmed::{Delta, Holding, Programmed, ProgrammedState, StreamId};
use crate::snapshot::Snapshot;
use calls::Calls;
use session::{Node, ReportError, Sample};
use takeovers::Takeovers;

pub use summary::{LoadSummary, ReportStatus};

/// How long a new leader waits for gateways before it counts who is missing: as long as they pause between two tries
/// at most.
pub const SETTLE: Duration = Duration::from_secs(15);

/// Within this time gateways which have a way to a controller learn of its new leader and come.
const GATHER: Duration = Duration::from_secs(2);

/// What gateways report. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Reports {
    state: watch::Sender<State>,
    leading: watch::Receiver<bool>,
    limits: Limits,
    metrics: Arc<Metrics>,
    streams: TaskTracker,
    shutdown: CancellationToken,
}

/// Why a gateway is not a member, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum JoinError {
    #[error(transparent)]
    Full(TooManyGateways),
    #[error("another gateway reports by this name, or this one does so twice")]
    Replaced,
    #[error(transparent)]
    Report(#[from] ReportError),
}

#[derive(Debug, Default)]
struct State {
    programmed: Programmed,
    /// Whether a term is so young that gateways which are there have not come yet: what those hold that have says
    /// nothing of all.
    gathering: bool,
    calls: Calls,
    /// By name, the same gateways as in `programmed`.
    members: BTreeMap<String, Member>,
    takeovers: Takeovers,
    newest: u64,
}

#[derive(Debug)]
struct Member {
    build: String,
    address: Option<SocketAddr>,
    joined: Instant,
    load: Option<LoadSummary>,
    /// A sample of which more follows.
    partial: LoadSummary,
}

// === impl Reports ===

impl Reports {
    /// Takes reports while `leading` is true, until `shutdown`.
    #[must_use]
    pub fn new(
        leading: watch::Receiver<bool>,
        limits: Limits,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        let streams = TaskTracker::new();
        Self { state: watch::Sender::default(), leading, limits, metrics, streams, shutdown }
    }

    /// Follows snapshots and terms until shutdown. A term is settled after `settle`; see [`SETTLE`].
    pub async fn run(self, mut snapshots: watch::Receiver<Option<Snapshot>>, settle: Duration) {
        let mut leading = self.leading.clone();
        let shutdown = self.shutdown.clone();
        let terms = async {
            while leading.wait_for(|leading| *leading).await.is_ok() {
                self.modify(|state| state.gathering = true);
                tokio::select! {
                    never = self.follow(&mut snapshots, settle) => match never {},
                    () = until_over(&mut leading) => {}
                }
                self.modify(|state| {
                    state.programmed.end_term();
                    state.calls = Calls::default();
                });
            }
        };
        shutdown.run_until_cancelled(terms).await;
        shutdown.cancelled().await;
    }

    /// One term.
    async fn follow(
        &self,
        snapshots: &mut watch::Receiver<Option<Snapshot>>,
        settle: Duration,
    ) -> Infallible {
        let (gathered, settled) = (tokio::time::sleep(GATHER.min(settle)), tokio::time::sleep(settle));
        tokio::pin!(gathered, settled);
        let (mut is_gathered, mut is_settled, mut is_fed) = (false, false, true);
        loop {
            if let Some(snapshot) = snapshots.borrow_and_update().clone() {
                self.modify(|state| state.set_snapshot(snapshot));
            }
            tokio::select! {
                // In this order: settling is the second step.
                biased;
                () = &mut gathered, if !is_gathered => {
                    is_gathered = true;
                    self.modify(|state| {
                        state.gathering = false;
                        state.programmed.begin_term();
                    });
                }
                () = &mut settled, if !is_settled => {
                    is_settled = true;
                    self.modify(|state| state.programmed.settle());
                }
                changed = snapshots.changed(), if is_fed => is_fed = changed.is_ok(),
                () = std::future::pending(), if !is_fed && is_settled => {}
            }
        }
    }

    /// Whether the gateways hold the route that was computed from `generation` of the Agent `key`.
    #[must_use]
    pub fn programmed(&self, key: &AgentKey, generation: i64) -> ProgrammedState {
        let state = self.state.borrow();
        if state.gathering { ProgrammedState::Unsettled } else { state.programmed.state(key, generation) }
    }

    /// Waits until there are Agents for which [`Self::programmed`] may say something else than before, and takes
    /// them, each once. Meant for one reader; nothing is lost when the future is dropped.
    pub async fn changed(&self) -> BTreeSet<AgentKey> {
        let mut state = self.state.subscribe();
        loop {
            // Cannot fail: the sender is held here.
            state.wait_for(|state| state.programmed.has_changed()).await.ok();
            let changed = self.modify(|state| state.programmed.take_changed());
            if !changed.is_empty() {
                return changed;
            }
        }
    }

    /// When a call of `key` last ended by our clock, to about a second; `None` where no gateway told of one.
    #[must_use]
    pub fn last_invocation(&self, key: &AgentKey) -> Option<SystemTime> {
        self.state.borrow().calls.last(key)
    }

    /// The Agents of which calls ended since this was last asked, each once. Meant for one reader.
    pub fn take_called(&self) -> BTreeSet<AgentKey> {
        self.modify(|state| state.calls.take_called())
    }

    /// Whether this controller leads, and so takes reports.
    #[must_use]
    pub fn is_leading(&self) -> bool {
        *self.leading.borrow()
    }

    /// The gateways that report, by name.
    #[must_use]
    pub fn list(&self) -> Vec<ReportStatus> {
        let state = self.state.borrow();
        let status = |(node, member): (&String, &Member)| {
            let holding = state.programmed.holding(node);
            ReportStatus {
                node: node.clone(),
                build: member.build.clone(),
                address: member.address,
                held: holding.map_or(0, Holding::held),
                rejected: holding.map_or(0, Holding::rejected),
                load: member.load,
                member_seconds: member.joined.elapsed().as_secs(),
            }
        };
        state.members.iter().map(status).collect()
    }

    /// Listens to a gateway in a task of its own. What is returned ends with the stream, and says why.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` where this controller does not lead, `RESOURCE_EXHAUSTED` where there are too many.
    pub(crate) fn accept(
        &self,
        requests: Streaming<ReportRequest>,
        address: Option<SocketAddr>,
    ) -> Result<mpsc::Receiver<Result<ReportResponse, Status>>, Status> {
        if !self.is_leading() {
            return Err(not_leading());
        }
        // Streams that have not said who they are count too.
        if self.streams.len() >= 2 * self.limits.gateways {
            return Err(Status::resource_exhausted("too many streams"));
        }
        let (responses, stream) = mpsc::channel(1);
        let task = stream::Stream { reports: self.clone(), address, responses };
        self.streams.spawn(task.run(requests));
        Ok(stream)
    }

    /// Waits until every stream has ended, once nothing is accepted any more.
    pub(crate) async fn ended(&self) {
        self.streams.close();
        self.streams.wait().await;
    }

    fn next_stream(&self) -> StreamId {
        self.modify(|state| {
            state.newest += 1;
            StreamId(state.newest)
        })
    }

    fn join(
        &self,
        node: &Node,
        stream: StreamId,
        address: Option<SocketAddr>,
        holding: Holding,
    ) -> Result<(), JoinError> {
        self.modify(|state| {
            if state.members.len() >= self.limits.gateways && !state.members.contains_key(&node.id) {
                return Err(JoinError::Full(TooManyGateways(self.limits.gateways)));
            }
            state.programmed.join(&node.id, stream, holding);
            let (build, joined) = (node.build.clone(), Instant::now());
            let member = Member { build, address, joined, load: None, partial: LoadSummary::default() };
            state.members.insert(node.id.clone(), member);
            self.metrics.set_report_members(state.members.len());
            Ok(())
        })
    }

    fn leave(&self, node: &str, stream: StreamId) {
        self.modify(|state| {
            if state.programmed.is_member(node, stream) {
                state.programmed.leave(node, stream);
                state.members.remove(node);
                self.metrics.set_report_members(state.members.len());
            }
        });
    }

    fn apply(
        &self,
        node: &str,
        stream: StreamId,
        delta: Delta,
        check: impl FnOnce(&Holding) -> Result<(), ReportError>,
    ) -> Result<(), JoinError> {
        self.modify(|state| {
            let holding = state.programmed.apply(node, stream, delta).ok_or(JoinError::Replaced)?;
            Ok(check(holding)?)
        })
    }

    fn is_takeover_worth_a_line(&self, node: &str, now: Instant) -> bool {
        self.modify(|state| state.takeovers.note(node, now))
    }

    fn take_samples(&self, node: &str, stream: StreamId, samples: &[Sample]) {
        if !samples.is_empty() {
            let now = SystemTime::now();
            self.modify(|state| state.take_samples(node, stream, samples, now, self.limits.held));
        }
    }

    /// Changes the state, and wakes who waits for changed Agents where there are some.
    fn modify<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut result = None;
        self.state.send_if_modified(|state| {
            result = Some(change(state));
            state.programmed.has_changed()
        });
        result.expect("the closure is called once, at once")
    }
}

// === impl State ===

impl State {
    fn set_snapshot(&mut self, snapshot: Snapshot) {
        for key in self.programmed.set_snapshot(snapshot) {
            self.calls.forget(&key);
        }
    }

    /// Calls count whoever tells of them, for Agents that there are; `limit` is how many may be known before there is
    /// a snapshot to say so.
    fn take_samples(
        &mut self,
        node: &str,
        stream: StreamId,
        samples: &[Sample],
        now: SystemTime,
        limit: usize,
    ) {
        for sample in samples {
            let at = now.checked_sub(sample.age).unwrap_or(SystemTime::UNIX_EPOCH);
            for load in sample.loads.iter().filter(|load| load.completed > 0) {
                let is_known = match self.programmed.snapshot() {
                    Some(snapshot) => snapshot.agent(load.key.as_str()).is_some(),
                    None => self.calls.len() < limit,
                };
                if is_known {
                    self.calls.note(&load.key, at);
                }
            }
        }
        if self.programmed.is_member(node, stream)
            && let Some(member) = self.members.get_mut(node)
        {
            for sample in samples {
                member.take_sample(sample);
            }
        }
    }
}

// === impl Member ===

impl Member {
    fn take_sample(&mut self, sample: &Sample) {
        let sum = &mut self.partial;
        sum.agents += sample.loads.len();
        for load in &sample.loads {
            sum.in_flight = sum.in_flight.saturating_add(load.in_flight.into());
            sum.waiting = sum.waiting.saturating_add(load.waiting.into());
            sum.completed = sum.completed.saturating_add(load.completed);
        }
        if !sample.more {
            self.load = Some(std::mem::take(&mut self.partial));
        }
    }
}

/// Waits for the end of a term. One of which nobody can say that it is over goes on.
async fn until_over(leading: &mut watch::Receiver<bool>) {
    if leading.wait_for(|leading| !leading).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn not_leading() -> Status {
    Status::failed_precondition("this controller does not lead; discovery says which one does")
}

#[cfg(test)]
mod tests;
