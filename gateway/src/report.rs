//! The stream to the controller that leads: what this gateway holds and refuses, and how busy it is.
//!
//! Owns the samples of load. Never touches a call, the table or discovery: losing the stream, or never having one,
//! changes nothing for anybody but the leader.
//!
//! 1. Discovery says where the leader is, and notes in [`Holds`] what it applied and refused.
//! 2. A sample of load is taken about once a second, stream or not (module `load`).
//! 3. [`ReportClient::run`] connects to the leader, tells all that is held and the last minute of load, then what
//!    changes (module `messages`). Another leader is turned to at once; the same one is tried again after a pause.
//!    While no leader is known it stays with the one that it has, and tries no other.

mod holds;
mod load;
mod messages;

use std::convert::Infallible;
use std::time::{Duration, Instant};

use http::Uri;
use krypton_discovery::wire;
use krypton_discovery::wire::route_discovery_client::RouteDiscoveryClient;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

pub use holds::{Holds, Refusal};

use crate::link::{self, Backoff, Credentials, LinkError, LinkLimits, Told, Trouble};
use crate::metrics::ReportMetrics;
use crate::route_table::RouteTableHandle;
use load::{History, Sampler};

/// How long changes are gathered: what one message of discovery brought is told in one.
const GATHER: Duration = Duration::from_millis(5);

/// Messages that wait to be sent.
const REQUEST_QUEUE: usize = 4;

/// Who reports, and how.
#[derive(Debug, Clone)]
pub struct ReportConfig {
    /// The name that discovery uses too.
    pub node_id: String,
    /// How the leader is recognised, and what it is shown: as any controller.
    pub credentials: Credentials,
    /// The time limits.
    pub limits: LinkLimits,
    /// Between two samples of load.
    pub sample_every: Duration,
}

/// Tells the leader.
pub struct ReportClient {
    config: ReportConfig,
    table: RouteTableHandle,
    holds: Holds,
    leader: watch::Receiver<Option<Uri>>,
    metrics: ReportMetrics,
}

// === impl ReportConfig ===

impl ReportConfig {
    /// That of a gateway called `node_id`: a sample a second.
    #[must_use]
    pub fn new(node_id: String, credentials: Credentials) -> Self {
        Self { node_id, credentials, limits: LinkLimits::default(), sample_every: Duration::from_secs(1) }
    }
}

// === impl ReportClient ===

impl ReportClient {
    /// A client that reports on `table` and `holds` to whoever `leader` names.
    pub fn new(
        config: ReportConfig,
        table: RouteTableHandle,
        holds: Holds,
        leader: watch::Receiver<Option<Uri>>,
        metrics: ReportMetrics,
    ) -> Self {
        Self { config, table, holds, leader, metrics }
    }

    /// Reports until `shutdown`. Never ends before.
    pub async fn run(self, shutdown: CancellationToken) {
        let history = watch::Sender::default();
        let parts = async { tokio::join!(self.sample(&history), self.follow_leaders(&history)) };
        shutdown.run_until_cancelled(parts).await;
        self.metrics.connected.set(0);
    }

    async fn sample(&self, history: &watch::Sender<History>) -> Infallible {
        let mut sampler = Sampler::new(self.table.clone());
        let mut ticks = tokio::time::interval(self.config.sample_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let loads = sampler.sample();
            history.send_modify(|history| history.push(Instant::now(), loads));
        }
    }

    async fn follow_leaders(&self, history: &watch::Sender<History>) -> Infallible {
        let (mut backoff, mut told) = (Backoff::default(), Told::default());
        let mut known = self.leader.clone();
        loop {
            let leader = next_leader(&mut known, |_| true).await;
            let mut opened = None;
            let ended = tokio::select! {
                Err(error) = self.follow(&leader, history, &mut opened) => Some(error),
                _ = next_leader(&mut known, |next| *next != leader) => None,
            };
            self.metrics.connected.set(0);
            let Some(error) = ended else {
                log::info!(old:% = leader; "Another controller leads");
                continue;
            };
            if opened.is_some() {
                told.clear();
            }
            if told.is_new(Trouble::from(&error)) {
                log::info!(leader:%, error:%; "Report to the leader ended; trying again");
            } else {
                log::debug!(leader:%, error:%; "Still no report to the leader");
            }
            let pause = backoff.next(opened.map(|opened: Instant| opened.elapsed()));
            tokio::select! {
                () = sleep(pause) => {}
                _ = next_leader(&mut known, |next| *next != leader) => {}
            }
        }
    }

    /// One stream, from the connection to its end. Says in `opened` since when the leader listens.
    async fn follow(
        &self,
        leader: &Uri,
        history: &watch::Sender<History>,
        opened: &mut Option<Instant>,
    ) -> Result<Infallible, LinkError> {
        let limits = self.config.limits;
        let link = link::connect(leader, &self.config.credentials, limits).await?;
        let (mut following, refused) = self.holds.follow();
        let mut greeting = messages::greeting(&self.config.node_id, &self.table, &refused).into_iter();
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
        let first = greeting.next().expect("a greeting says at least who there is");
        requests.try_send(first).expect("an empty queue takes one message");
        let mut client = RouteDiscoveryClient::new(link.channel.clone());
        let request = link.request(ReceiverStream::new(queue));
        let mut responses = timeout(limits.progress, client.report(request)).await??.into_inner();
        *opened = Some(Instant::now());
        self.metrics.connected.set(1);
        self.metrics.streams.inc();
        log::info!(leader:%; "Reporting to the leader");
        self.send(&requests, greeting).await?;

        let (mut samples, mut told) = (history.subscribe(), 0);
        // The minute before is news to this leader.
        samples.mark_changed();
        loop {
            tokio::select! {
                response = responses.message() => drop(response?.ok_or(LinkError::Ended)?),
                () = following.changed() => {
                    sleep(GATHER).await;
                    self.send(&requests, messages::changes(&self.table, &following.take())).await?;
                }
                Ok(()) = samples.changed() => {
                    let new = samples.borrow_and_update().since(told);
                    told = new.last().map_or(told, |sample| sample.number);
                    self.send(&requests, messages::samples(&new, Instant::now())).await?;
                }
            }
        }
    }

    async fn send(
        &self,
        requests: &mpsc::Sender<wire::ReportRequest>,
        messages: impl IntoIterator<Item = wire::ReportRequest>,
    ) -> Result<(), LinkError> {
        for message in messages {
            // Fails when the stream is over; the next response says why.
            timeout(self.config.limits.progress, requests.send(message)).await?.ok();
        }
        Ok(())
    }
}

/// Waits for a leader that `is_wanted`. Without discovery there will be none.
async fn next_leader(leader: &mut watch::Receiver<Option<Uri>>, is_wanted: impl Fn(&Uri) -> bool) -> Uri {
    let known = leader.wait_for(|leader| leader.as_ref().is_some_and(&is_wanted)).await;
    let known = known.ok().and_then(|known| known.clone());
    match known {
        Some(leader) => leader,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
