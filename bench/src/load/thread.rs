//! One thread of the generator.
//!
//! Owns: its runtime, its lanes and what they saw. Shares nothing with other threads while it runs but the time that is
//! measured and two counters for the progress bar.
//!
//! 1. Each lane connects (and of `idle` opens what it holds).
//! 2. When all have, the thread says so and waits for the start.
//! 3. Lanes run until they end, or until they are cut off.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::args::Protocol;
use super::arrivals::Arrivals;
use super::clock::now_ns;
use super::exchange::{Dialer, Exchange};
use super::gate::{Gate, Opened};
use super::h2c::{H2c, Shared};
use super::http1::{self, Http1};
use super::lane::{Caller, Unary, closed_loop, open_loop};
use super::mix::Mix;
use super::plan::Plan;
use super::record::{Live, Recorder, Seen, Window};
use super::report::Kind;
use super::schedule::Schedule;
use super::websocket::Echo;
use super::{idle, limits, sse};
use crate::busy_poll::busy_poll;

/// Bytes that a connection reads at once with the head of an answer: a small answer comes whole.
const BUFFER: usize = 16 * 1024;

/// The same where ten thousand connections are held.
const IDLE_BUFFER: usize = 1024;

/// What a thread says to the one that started it.
#[derive(Debug)]
pub(super) enum Told {
    /// All its connections have been tried.
    Ready(Opened),
    /// It has ended.
    Done,
}

/// What a thread is started with.
#[derive(Debug)]
pub(super) struct Share {
    /// The whole run.
    pub(super) plan: Arc<Plan>,
    /// Which thread it is.
    pub(super) index: usize,
    /// What is measured.
    pub(super) window: Window,
    /// Its own counters.
    pub(super) live: Arc<Live>,
    /// When the load begins, once that is known.
    pub(super) start: watch::Receiver<Option<u64>>,
    /// Ends everything.
    pub(super) cut: CancellationToken,
    /// Set before a cut that comes early.
    pub(super) interrupted: Arc<AtomicBool>,
    /// Holds two messages a thread, so that it never waits.
    pub(super) told: mpsc::Sender<Told>,
}

/// What the lanes of a thread share.
struct Lanes {
    plan: Arc<Plan>,
    recorder: Recorder,
    gate: Gate,
    arrivals: OnceCell<Arrivals>,
    go: watch::Sender<bool>,
}

/// A lane of one of the groups.
struct Lane {
    lanes: Rc<Lanes>,
    group: usize,
    random: Rng,
}

/// Runs a thread's share to its end.
///
/// # Errors
/// When the runtime cannot be made, or a lane panicked.
pub(super) fn work(share: &Share) -> anyhow::Result<Seen> {
    if let cores @ [_, ..] = &share.plan.cores[..] {
        limits::pin(&[cores[share.index % cores.len()]])?;
    }
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .context("cannot make a runtime")?;
    let seen = runtime.block_on(run(share));
    // Full only when nobody reads any more.
    share.told.try_send(Told::Done).ok();
    seen
}

async fn run(share: &Share) -> anyhow::Result<Seen> {
    let connections: Vec<usize> =
        (0..share.plan.connections).filter(|n| n % share.plan.threads == share.index).collect();
    let lanes = Rc::new(Lanes {
        plan: Arc::clone(&share.plan),
        recorder: Recorder::new(share.window.clone(), Arc::clone(&share.live)),
        gate: Gate::new(connections.len() * share.plan.streams_per_connection),
        arrivals: OnceCell::new(),
        go: watch::Sender::new(false),
    });
    if share.plan.busy_poll {
        tokio::task::spawn_local(busy_poll());
    }
    let mut tasks = JoinSet::new();
    let scratch = http1::scratch();
    for connection in connections {
        start(&lanes, connection, &scratch, &mut tasks)?;
    }
    tokio::select! {
        done = all(share, &lanes, &mut tasks) => done?,
        () = share.cut.cancelled() => {}
    }
    if let Some(arrivals) = lanes.arrivals.get()
        && !share.interrupted.load(Relaxed)
    {
        lanes.recorder.close(arrivals.due_in_window());
    }
    Ok(lanes.recorder.seen())
}

async fn all(share: &Share, lanes: &Rc<Lanes>, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
    share.told.send(Told::Ready(lanes.gate.all().await)).await.ok();
    let mut start = share.start.clone();
    let begin_ns = start.wait_for(Option::is_some).await?.unwrap_or_default();
    if let Some(per_kilosecond) = share.plan.per_kilosecond {
        let schedule = Schedule::new(begin_ns, per_kilosecond, share.index, share.plan.threads);
        let arrivals =
            Arrivals::new(schedule, share.window.clone()).context("the kernel has no timer left")?;
        lanes.arrivals.set(arrivals).ok().context("it is set once")?;
    }
    // With no warm-up the first call counts, so it must not come before the window.
    tokio::time::sleep(Duration::from_nanos(begin_ns.saturating_sub(now_ns()))).await;
    lanes.go.send_replace(true);
    let hand_out = async {
        match lanes.arrivals.get() {
            Some(arrivals) => arrivals.hand_out().await,
            None => std::future::pending().await,
        }
    };
    let join = async {
        while let Some(ended) = tasks.join_next().await {
            ended.context("a lane broke")?;
        }
        Ok(())
    };
    tokio::select! {
        joined = join => joined,
        error = hand_out => Err(error).context("the timer broke"),
    }
}

/// Starts the lanes of one connection.
fn start(
    lanes: &Rc<Lanes>,
    connection: usize,
    scratch: &http1::Scratch,
    tasks: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    let plan = &lanes.plan;
    // Threads and groups both take connections in turn.
    let group = (connection / plan.threads) % plan.groups.len();
    let source = (!plan.sources.is_empty()).then(|| plan.sources[connection % plan.sources.len()]);
    let dialer = Dialer { address: plan.groups[group].address, source, timeout: plan.timeout };
    let recorder = lanes.recorder.clone();
    let lane = |stream: usize| Lane {
        lanes: Rc::clone(lanes),
        group,
        random: Rng::with_seed((connection * plan.streams_per_connection + stream) as u64),
    };
    match (plan.kind, plan.protocol) {
        (Kind::WebSocket, _) => {
            let mut lane = lane(0);
            let prepared = plan.groups[group].mix.pick(&mut lane.random);
            let echo = Echo::new(dialer, recorder, prepared, plan.message_bytes)?;
            tasks.spawn_local(lane.calls(echo));
        }
        (kind, Protocol::Http1) => {
            let buffer = if kind == Kind::Idle { IDLE_BUFFER } else { BUFFER };
            let exchange = Http1::new(dialer, recorder, Rc::clone(scratch), buffer);
            tasks.spawn_local(lane(0).exchange(exchange));
        }
        (_, Protocol::H2c) => {
            let shared = Shared::new(dialer, recorder);
            for stream in 0..plan.streams_per_connection {
                tasks.spawn_local(lane(stream).exchange(H2c::new(&shared)));
            }
        }
    }
    Ok(())
}

// === impl Lanes ===

impl Lanes {
    async fn started(&self) {
        // The sender is a field of this.
        self.go.subscribe().wait_for(|go| *go).await.ok();
    }
}

// === impl Lane ===

impl Lane {
    async fn exchange<E: Exchange + 'static>(mut self, mut exchange: E) {
        let lanes = Rc::clone(&self.lanes);
        let mix = self.mix();
        match lanes.plan.kind {
            Kind::Requests | Kind::WebSocket => self.calls(Unary(exchange)).await,
            Kind::Sse => {
                lanes.gate.pass(exchange.connect()).await.ok();
                lanes.started().await;
                sse::read_streams(exchange, &mix, self.random, &lanes.recorder).await;
            }
            Kind::Idle => {
                let prepared = mix.pick(&mut self.random);
                let held = lanes.gate.pass(idle::open(&mut exchange, prepared, &lanes.recorder)).await;
                lanes.started().await;
                if let Ok(held) = held {
                    idle::hold(&mut exchange, held, &lanes.recorder).await;
                }
            }
        }
    }

    async fn calls<C: Caller + 'static>(self, mut caller: C) {
        let lanes = Rc::clone(&self.lanes);
        let mix = self.mix();
        // One that fails is tried again with the first call, and counted.
        lanes.gate.pass(caller.connect()).await.ok();
        lanes.started().await;
        match lanes.arrivals.get() {
            Some(arrivals) => open_loop(caller, &mix, self.random, &lanes.recorder, arrivals).await,
            None => closed_loop(caller, &mix, self.random, &lanes.recorder).await,
        }
    }

    fn mix(&self) -> Arc<Mix> {
        Arc::clone(&self.lanes.plan.groups[self.group].mix)
    }
}
