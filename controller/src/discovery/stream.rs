//! One gateway's stream: moves messages between the wire and the session, with deadlines.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use krypton_discovery::wire::{DeltaRoutesRequest, DeltaRoutesResponse, RejectedResource};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::gateways::{GatewayStatus, Gateways, Membership};
use super::incoming::{self, End, one_line};
use super::session::{self, Rejection, Session};
use super::{Limits, Metrics, Snapshot};

/// Lines that one message of a gateway may cause in the log.
const LOGGED_REJECTIONS: usize = 10;

/// What one stream's task needs.
pub(super) struct Stream {
    pub(super) snapshots: watch::Receiver<Option<Snapshot>>,
    pub(super) leader: watch::Receiver<Option<String>>,
    pub(super) gateways: Gateways,
    pub(super) metrics: Arc<Metrics>,
    pub(super) limits: Limits,
    pub(super) shutdown: CancellationToken,
    pub(super) address: Option<SocketAddr>,
    pub(super) responses: mpsc::Sender<Result<DeltaRoutesResponse, Status>>,
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
        let held = held.iter().map(incoming::held).collect::<Result<Vec<_>, _>>();
        let held =
            held.map_err(|error| Status::invalid_argument(format!("initial_resource_versions: {error}")))?;
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
            let leader = self.leader.borrow_and_update().clone();
            if let Some(response) = newest.and_then(|snapshot| session.next(&snapshot, leader.as_deref())) {
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
                changed = either(&mut self.snapshots, &mut self.leader), if !waiting => if changed.is_err() {
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

fn rejection_in(rejected: &RejectedResource) -> Result<Rejection, Status> {
    let (key, reason) = incoming::rejected(rejected)
        .map_err(|error| Status::invalid_argument(format!("rejected: {error}")))?;
    Ok(Rejection { key, reason })
}

/// Waits for a newer snapshot or another leader. Fails when there will be no more snapshots; a leader that nobody
/// can take back stays.
async fn either(
    snapshots: &mut watch::Receiver<Option<Snapshot>>,
    leader: &mut watch::Receiver<Option<String>>,
) -> Result<(), watch::error::RecvError> {
    tokio::select! {
        changed = snapshots.changed() => changed,
        Ok(()) = leader.changed() => Ok(()),
    }
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
        leader: response.leader.clone().unwrap_or_default(),
    }
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
}
