//! One gateway's report: moves messages from the wire to the session and to [`Reports`], with deadlines.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Instant;

use krypton_discovery::wire::{ReportRequest, ReportResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::session::{ReportError, Session};
use super::{JoinError, Reports};
use crate::discovery::incoming::End;
use crate::programmed::StreamId;

/// What one stream's task needs.
pub(super) struct Stream {
    pub(super) reports: Reports,
    pub(super) address: Option<SocketAddr>,
    /// Only for the status at the end.
    pub(super) responses: mpsc::Sender<Result<ReportResponse, Status>>,
}

/// A gateway that is a member until this is dropped.
struct Membership<'a> {
    reports: &'a Reports,
    node: &'a str,
    stream: StreamId,
}

// === impl Stream ===

impl Stream {
    /// Listens to the gateway for as long as it reports and this controller leads.
    pub(super) async fn run(self, mut requests: Streaming<ReportRequest>) {
        let mut leading = self.reports.leading.clone();
        let end = tokio::select! {
            Err(end) = self.follow(&mut requests) => end,
            () = super::until_over(&mut leading) => super::not_leading().into(),
            () = self.reports.shutdown.cancelled() => Status::unavailable("the controller is stopping").into(),
        };
        let address = self.address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
        log::info!(address, reason:% = end; "Report of a gateway ended");
        if let End::Refused(status) = end {
            // Where the gateway does not read, nobody is there to be told.
            self.responses.try_send(Err(status)).ok();
        }
    }

    async fn follow(&self, requests: &mut Streaming<ReportRequest>) -> Result<Infallible, End> {
        let limits = self.reports.limits;
        let first = timeout(limits.hello_timeout, requests.message());
        let first = first.await.map_err(|_| Status::deadline_exceeded("no first message in time"))?;
        let first = first.map_err(End::Broken)?.ok_or(End::Left)?;
        let (mut session, node, mut told) = Session::begin(first, limits.held)?;
        let stream = self.reports.next_stream();
        let mut membership = None;
        loop {
            if let Some(holding) = told.joined {
                log::info!(node = node.id.as_str(), routes = holding.held(); "Gateway reports");
                self.reports.join(&node, stream, self.address, holding)?;
                membership = Some(Membership { reports: &self.reports, node: &node.id, stream });
            } else if membership.is_some() {
                let applied =
                    self.reports.apply(&node.id, stream, told.delta, |holding| session.check(holding));
                if let Err(JoinError::Replaced) = applied {
                    self.tell_takeover(&node.id);
                }
                applied?;
            }
            self.reports.take_samples(&node.id, stream, &told.samples);
            // It speaks about once a second.
            let next = timeout(limits.answer_timeout, requests.message());
            let next = next.await.map_err(|_| Status::deadline_exceeded("nothing was reported in time"))?;
            told = session.take(next.map_err(End::Broken)?.ok_or(End::Left)?)?;
        }
    }
}

impl Stream {
    /// A gateway that only reconnects may still have spoken on its old stream, once. Two push each other out on and on.
    fn tell_takeover(&self, node: &str) {
        if self.reports.is_takeover_worth_a_line(node, Instant::now()) {
            log::warn!(
                node, address:? = self.address;
                "Two gateways have one --node-id and push each other out; give each its own"
            );
        }
    }
}

// === impl Membership ===

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        self.reports.leave(self.node, self.stream);
    }
}

// === impl End ===

impl From<ReportError> for End {
    fn from(error: ReportError) -> Self {
        let text = error.to_string();
        Self::Refused(if error.is_too_much() {
            Status::resource_exhausted(text)
        } else {
            Status::invalid_argument(text)
        })
    }
}

impl From<JoinError> for End {
    fn from(error: JoinError) -> Self {
        let text = error.to_string();
        Self::Refused(match error {
            JoinError::Full(_) => Status::resource_exhausted(text),
            JoinError::Replaced => Status::aborted(text),
            JoinError::Report(error) => return error.into(),
        })
    }
}
