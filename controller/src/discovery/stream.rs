//! One gateway's stream: moves messages between the wire and the session, with deadlines.
//!
//! What a gateway writes is checked, cut to a bounded length and made one line before any of it is logged, kept or
//! sent back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use krypton_discovery::wire::{DeltaRoutesRequest, DeltaRoutesResponse, HeldResource};
use krypton_discovery::{AgentKey, AgentKeyError, Version, wire};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::gateways::{GatewayStatus, Gateways, Membership};
use super::session::{self, Rejection, Session};
use super::{Limits, Metrics, Snapshot};

/// Bytes of a name or a reason that a gateway gives us.
const MAX_TEXT_BYTES: usize = 512;

/// Lines that one message of a gateway may cause in the log.
const LOGGED_REJECTIONS: usize = 10;

/// What one stream's task needs.
pub(super) struct Stream {
    pub(super) snapshots: watch::Receiver<Option<Snapshot>>,
    pub(super) gateways: Gateways,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    pub(super) shutdown: CancellationToken,
    pub(super) address: Option<SocketAddr>,
    pub(super) responses: mpsc::Sender<Result<DeltaRoutesResponse, Status>>,
}

/// Why a stream ended. The gateway is told only what it does not know.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the gateway left")]
    Left,
    #[error("the stream broke: {}", .0.message())]
    Broken(Status),
    #[error("{}", .0.message())]
    Refused(Status),
}

// === impl Stream ===

impl Stream {
    /// Serves the gateway to the end of its stream.
    pub(super) async fn run(mut self, mut requests: Streaming<DeltaRoutesRequest>) {
        let end = match self.greet(&mut requests).await {
            Ok((node, session, membership)) => {
                log::info!(node = node.as_str(), address = self.peer().as_str(); "Gateway connected");
                let end = self.feed(&node, session, &membership, &mut requests).await;
                log::info!(node = node.as_str(), reason:% = end; "Gateway disconnected");
                end
            }
            Err(end) => {
                log::warn!(address = self.peer().as_str(), reason:% = end; "Gateway refused");
                end
            }
        };
        if let End::Refused(status) = end {
            // Where the gateway does not read, nobody is there to be told.
            self.responses.try_send(Err(status)).ok();
        }
    }

    /// Where the gateway connects from, for the log.
    fn peer(&self) -> String {
        self.address.map_or_else(|| "unknown".to_owned(), |address| address.to_string())
    }

    /// Takes the first message.
    async fn greet(
        &self,
        requests: &mut Streaming<DeltaRoutesRequest>,
    ) -> Result<(String, Session, Membership), End> {
        let first = timeout(self.limits.hello_timeout, requests.message());
        let first = first.await.map_err(|_| Status::deadline_exceeded("no first message in time"))??;
        let DeltaRoutesRequest { node, initial_resource_versions: held, .. } = first.ok_or(End::Left)?;
        let node = node.filter(|node| !node.id.is_empty());
        let mut node = node.ok_or_else(|| Status::invalid_argument("node.id: missing"))?;
        (node.id, node.build) = (one_line(&node.id), one_line(&node.build));
        if held.len() > self.limits.held {
            let message = format!("initial_resource_versions: {}, at most {}", held.len(), self.limits.held);
            return Err(Status::resource_exhausted(message).into());
        }
        let held = held.iter().map(held_in).collect::<Result<Vec<_>, _>>()?;
        let session = Session::new(held);
        let status = GatewayStatus {
            node: node.id.clone(),
            build: node.build,
            address: self.address,
            held: session.held(),
            generation: None,
            rejected: 0,
            rejections: std::collections::BTreeMap::new(),
            connected: Instant::now(),
        };
        let membership =
            self.gateways.join(status).map_err(|full| Status::resource_exhausted(full.to_string()))?;
        Ok((node.id, session, membership))
    }

    /// Sends what differs and takes answers until the stream ends.
    async fn feed(
        &mut self,
        node: &str,
        mut session: Session,
        membership: &Membership,
        requests: &mut Streaming<DeltaRoutesRequest>,
    ) -> End {
        let mut answer_by = tokio::time::Instant::now();
        loop {
            let newest = self.snapshots.borrow_and_update().clone();
            if let Some(response) = newest.and_then(|snapshot| session.next(&snapshot)) {
                self.metrics.count_response(response.upserts.len(), response.removed.len());
                if self.responses.try_send(Ok(response_out(&response))).is_err() {
                    return End::Left;
                }
                answer_by = tokio::time::Instant::now() + self.limits.answer_timeout;
            }
            let waiting = session.is_waiting();
            tokio::select! {
                () = self.shutdown.cancelled() => {
                    return Status::unavailable("the controller is stopping").into();
                }
                request = requests.message() => match request {
                    Ok(Some(request)) => if let Err(status) = self.answer(node, &mut session, &request) {
                        return status.into();
                    },
                    Ok(None) => return End::Left,
                    Err(status) => return End::Broken(status),
                },
                changed = self.snapshots.changed(), if !waiting => if changed.is_err() {
                    return Status::unavailable("the controller is stopping").into();
                },
                () = tokio::time::sleep_until(answer_by), if waiting => {
                    return Status::deadline_exceeded("a response was not answered in time").into();
                }
            }
            membership.update(&session);
        }
    }

    fn answer(&self, node: &str, session: &mut Session, request: &DeltaRoutesRequest) -> Result<(), Status> {
        let rejected = request.rejected.iter().map(rejection_in).collect::<Result<Vec<_>, _>>()?;
        let answered = session.answer(request.response_nonce, &rejected);
        answered.map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.metrics.count_nacks(rejected.len());
        let (logged, more) = worth_a_line(&rejected);
        for Rejection { key, reason } in logged {
            log::warn!(node, agent:% = key, reason = reason.as_str(); "Gateway refused a route");
        }
        if more > 0 {
            log::warn!(node, more; "Gateway refused further routes");
        }
        Ok(())
    }
}

// === impl End ===

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

fn held_in(held: &HeldResource) -> Result<(AgentKey, Version), Status> {
    let refuse = |reason: String| Status::invalid_argument(format!("initial_resource_versions: {reason}"));
    let key = key_in(&held.name).map_err(|error| refuse(error.to_string()))?;
    let version = Version::try_from(held.version.as_slice());
    let version = version.map_err(|error| refuse(format!("{key}: {error}")))?;
    Ok((key, version))
}

fn rejection_in(rejected: &wire::RejectedResource) -> Result<Rejection, Status> {
    let key = key_in(&rejected.name);
    let key = key.map_err(|error| Status::invalid_argument(format!("rejected: {error}")))?;
    Ok(Rejection { key, reason: one_line(&rejected.reason) })
}

/// The error repeats the name, so it is cut first; what is longer than a key stays so.
fn key_in(name: &str) -> Result<AgentKey, AgentKeyError> {
    cut(name).parse()
}

/// The rejections that get a line each, and how many are only counted.
fn worth_a_line(rejected: &[Rejection]) -> (&[Rejection], usize) {
    let (logged, more) = rejected.split_at(rejected.len().min(LOGGED_REJECTIONS));
    (logged, more.len())
}

fn response_out(response: &session::Response) -> DeltaRoutesResponse {
    DeltaRoutesResponse {
        nonce: response.nonce,
        upserts: response.upserts.iter().map(Into::into).collect(),
        removed: response.removed.iter().map(ToString::to_string).collect(),
        more: response.more,
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

/// A text that cannot pass for a line of its own in the log.
fn one_line(text: &str) -> String {
    cut(text).replace(char::is_control, "?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_causes_few_lines() {
        let rejections = |count| {
            let rejection = |n| Rejection { key: format!("ns/a{n}").parse().unwrap(), reason: String::new() };
            (0..count).map(rejection).collect::<Vec<_>>()
        };
        let told = |count| {
            let rejected = rejections(count);
            let (logged, more) = worth_a_line(&rejected);
            (logged.len(), more)
        };
        assert_eq!([told(0), told(10), told(2_000)], [(0, 0), (10, 0), (10, 1_990)]);
    }

    #[test]
    fn what_a_gateway_writes_stays_in_its_line() {
        assert_eq!(one_line("port: no\r\n\u{1b}[31mERROR"), "port: no???[31mERROR");
    }

    #[test]
    fn what_a_gateway_writes_is_cut() {
        let endless = "ä".repeat(1 << 20);
        let rejected = |name: &str| wire::RejectedResource {
            name: name.into(),
            reason: endless.clone(),
            version: vec![],
        };
        assert!(rejection_in(&rejected("ns/a")).unwrap().reason.len() <= MAX_TEXT_BYTES);
        let held = HeldResource { name: endless.clone(), version: vec![0; 16] };
        for status in [rejection_in(&rejected(&endless)).unwrap_err(), held_in(&held).unwrap_err()] {
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().len() < 2 * MAX_TEXT_BYTES, "{} bytes", status.message().len());
        }
    }
}
