//! Calls at a steady rate in the background, and the tally of how they went.
//!
//! The rate does not wait for answers, so a gateway that holds calls back cannot hide it. Waiting is for states of
//! the tally, never for a time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{bail, ensure};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::client::Client;
use crate::wait::within;

/// Calls a second: many enough that a gap of some milliseconds would be hit, few enough for any laptop.
pub(crate) const RATE: u32 = 100;

/// Calls at one time. Above it the rate waits: 2.5 seconds of calls without an answer are trouble enough.
const MAX_IN_FLIGHT: usize = 256;

/// Calls that are being made. Dropping it stops them where they are.
#[derive(Debug)]
pub(crate) struct Traffic {
    stop: oneshot::Sender<()>,
    tally: watch::Receiver<Tally>,
    task: JoinSet<()>,
}

/// How the calls went so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Calls that ended, well or not.
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    /// Why the first of them failed.
    first_failure: Option<String>,
    /// The longest that a call took which did not fail.
    pub(crate) slowest: Duration,
    /// How many were answered by which pod.
    pods: BTreeMap<String, u64>,
    /// How many were answered by which version of the image.
    versions: BTreeMap<String, u64>,
}

/// A good answer.
#[derive(Debug)]
struct Good {
    pod: String,
    version: Option<String>,
    took: Duration,
}

/// A good answer, or why there was none.
type Outcome = Result<Good, String>;

// === impl Traffic ===

impl Traffic {
    /// Begins to GET `url`.
    pub(crate) fn start(client: Client, url: String) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (sender, tally) = watch::channel(Tally::default());
        let mut task = JoinSet::new();
        task.spawn(run(client, url, stopped, sender));
        Self { stop, tally, task }
    }

    /// How the calls went so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// Waits until the tally is so.
    ///
    /// # Errors
    /// It does not become so in time, or a call fails first.
    pub(crate) async fn until(&mut self, what: &str, state: impl Fn(&Tally) -> bool) -> anyhow::Result<()> {
        let reached = self.tally.wait_for(|tally| tally.failed > 0 || state(tally));
        within(what, async { reached.await.map(|tally| tally.clone()) }).await?.check()
    }

    /// Waits for that many more calls.
    ///
    /// # Errors
    /// They do not end in time, or one fails.
    pub(crate) async fn more(&mut self, calls: u64) -> anyhow::Result<()> {
        let enough = self.tally.borrow().calls + calls;
        self.until("calls going on", |tally| tally.calls >= enough).await
    }

    /// Makes no new calls and waits for the running ones.
    ///
    /// # Errors
    /// One has failed.
    pub(crate) async fn stop(mut self) -> anyhow::Result<Tally> {
        self.stop.send(()).ok();
        within("the last calls", async { self.task.join_next().await.transpose() }).await?;
        let tally = self.tally.borrow().clone();
        tally.check()?;
        Ok(tally)
    }
}

async fn run(client: Client, url: String, mut stop: oneshot::Receiver<()>, tally: watch::Sender<Tally>) {
    let mut calls = JoinSet::new();
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = &mut stop => break,
            Some(call) = calls.join_next() => tally.send_modify(|tally| tally.add(outcome(call))),
            _ = ticks.tick(), if calls.len() < MAX_IN_FLIGHT => {
                let (client, url) = (client.clone(), url.clone());
                calls.spawn(async move { call(&client, &url).await.map_err(|error| format!("{error:#}")) });
            }
        }
    }
    while let Some(call) = calls.join_next().await {
        tally.send_modify(|tally| tally.add(outcome(call)));
    }
}

async fn call(client: &Client, url: &str) -> anyhow::Result<Good> {
    let begun = Instant::now();
    let answer = client.get(url).await?;
    let (pod, version) = (answer.instance()?.to_owned(), answer.version().map(str::to_owned));
    Ok(Good { pod, version, took: begun.elapsed() })
}

fn outcome(call: Result<Outcome, JoinError>) -> Outcome {
    call.unwrap_or_else(|error| Err(error.to_string()))
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, outcome: Outcome) {
        self.calls += 1;
        match outcome {
            Ok(Good { pod, version, took }) => {
                self.slowest = self.slowest.max(took);
                *self.pods.entry(pod).or_default() += 1;
                if let Some(version) = version {
                    *self.versions.entry(version).or_default() += 1;
                }
            }
            Err(reason) => {
                self.failed += 1;
                self.first_failure.get_or_insert(reason);
            }
        }
    }

    /// Calls that this pod has answered.
    pub(crate) fn of_pod(&self, pod: &str) -> u64 {
        self.pods.get(pod).copied().unwrap_or_default()
    }

    /// Pods that have answered.
    pub(crate) fn pods(&self) -> usize {
        self.pods.len()
    }

    /// Calls that this version of the image has answered.
    pub(crate) fn of_version(&self, version: &str) -> u64 {
        self.versions.get(version).copied().unwrap_or_default()
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.calls > 0, "no call was made");
        let Some(reason) = &self.first_failure else { return Ok(()) };
        bail!("{} of {} calls failed; the first: {reason}", self.failed, self.calls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(pod: &str, ms: u64) -> Good {
        let version = Some("1".to_owned()).filter(|_| pod == "a");
        Good { pod: pod.to_owned(), version, took: Duration::from_millis(ms) }
    }

    #[test]
    fn calls_are_counted_by_the_pod_and_the_version_that_answered() {
        let mut tally = Tally::default();
        for answer in [answer("a", 1), answer("b", 9), answer("a", 2), answer("a", 3)] {
            tally.add(Ok(answer));
        }
        assert_eq!((tally.calls, tally.failed, tally.slowest), (4, 0, Duration::from_millis(9)));
        assert_eq!((tally.of_pod("a"), tally.of_pod("b"), tally.of_pod("c")), (3, 1, 0));
        assert_eq!((tally.pods(), tally.of_version("1"), tally.of_version("2")), (2, 3, 0));
        tally.check().unwrap();
    }

    #[test]
    fn one_failure_fails_all_and_the_first_reason_is_told() {
        let mut tally = Tally::default();
        for outcome in [Ok(answer("a", 1)), Err("reset".to_owned()), Err("refused".to_owned())] {
            tally.add(outcome);
        }
        let error = tally.check().unwrap_err().to_string();
        assert_eq!(error, "2 of 3 calls failed; the first: reset");
        assert!(Tally::default().check().is_err(), "no call proves nothing");
    }

    #[tokio::test]
    async fn a_gateway_that_is_not_there_is_a_failure_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let mut traffic = Traffic::start(Client::new(), url);
        let error = traffic.more(1000).await.unwrap_err();
        assert!(format!("{error:#}").contains("calls failed; the first: GET http://127.0.0.1"), "{error:#}");
        assert!(traffic.stop().await.is_err());
    }
}
