//! The protocol of one stream: responses in, changes of the table and answers out. Synchronous, no I/O.

use std::collections::HashMap;

use krypton_discovery::{AgentKey, Rejected, Version, VersionedRoute, wire};

use crate::metrics::DiscoveryMetrics;
use crate::report::{Holds, Refusal};
use crate::route_table::RouteTableWriter;

/// What one stream has brought so far.
#[derive(Debug, Default)]
pub(super) struct Session {
    last_nonce: u64,
    complete: bool,
}

/// The controller does what the contract forbids. The response is not applied and the stream is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProtocolError {
    /// A nonce is 0 or was used before.
    #[error("nonce {nonce} after {last}")]
    Nonce {
        /// What came.
        nonce: u64,
        /// What came before, 0 at first.
        last: u64,
    },
}

/// Puts `route` into the table and says which of its addresses were left out.
pub(super) fn upsert(writer: &mut RouteTableWriter, route: VersionedRoute, metrics: &DiscoveryMetrics) {
    let key = route.key().clone();
    let refused = writer.upsert(route);
    // Once per version of the route: the writer skips a version that it holds.
    if let Some(first) = refused.first() {
        metrics.refused_endpoints.inc_by(refused.len() as u64);
        log::warn!(agent:% = key, address:% = first.address, reason:% = first.reason, count = refused.len();
            "Left out addresses that must not be dialled");
    }
}

// === impl Session ===

impl Session {
    /// What a stream begins with: who the gateway is and which versions it holds.
    pub(super) fn first_request(node_id: &str, writer: &RouteTableWriter) -> wire::DeltaRoutesRequest {
        let held = writer.held().map(|(key, version)| wire::HeldResource {
            name: key.as_str().to_owned(),
            version: version.as_bytes().to_vec(),
        });
        wire::DeltaRoutesRequest {
            node: Some(wire::Node { id: node_id.to_owned(), build: env!("CARGO_PKG_VERSION").to_owned() }),
            initial_resource_versions: held.collect(),
            response_nonce: 0,
            rejected: Vec::new(),
        }
    }

    /// Whether the table was made whole on this stream.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Applies what is good of `response` and answers it: an ACK, or a NACK that names the rest. A name that comes
    /// twice counts as it came last; one that is both removed and sent anew was made anew.
    pub(super) fn apply(
        &mut self,
        response: wire::DeltaRoutesResponse,
        writer: &mut RouteTableWriter,
        holds: &Holds,
        metrics: &DiscoveryMetrics,
    ) -> Result<wire::DeltaRoutesRequest, ProtocolError> {
        let wire::DeltaRoutesResponse { nonce, upserts, removed, more, leader: _ } = response;
        if nonce <= self.last_nonce {
            return Err(ProtocolError::Nonce { nonce, last: self.last_nonce });
        }
        self.last_nonce = nonce;

        let (good, bad) = convert(upserts);
        let taken: Vec<AgentKey> = good.iter().map(|route| route.key().clone()).collect();
        for name in &removed {
            writer.remove(name);
        }
        for route in good {
            upsert(writer, route, metrics);
        }
        // After the table has it: whoever is told reads it there.
        let removed = removed.iter().filter_map(|name| name.parse().ok());
        holds.note(removed.chain(taken), bad.iter().filter_map(refusal));
        for rejected in &bad {
            log::warn!(resource:% = rejected; "Refused a route; its last good version is kept");
        }
        metrics.rejected.inc_by(bad.len() as u64);
        self.complete |= !more;
        Ok(wire::DeltaRoutesRequest {
            response_nonce: nonce,
            rejected: bad.into_iter().map(rejected_out).collect(),
            ..Default::default()
        })
    }
}

/// Splits resources into the good and the bad, the last of each name.
fn convert(upserts: Vec<wire::RouteResource>) -> (Vec<VersionedRoute>, Vec<Rejected>) {
    let last: HashMap<String, usize> =
        upserts.iter().enumerate().map(|(index, resource)| (resource.name.clone(), index)).collect();
    let (mut good, mut bad) = (Vec::with_capacity(last.len()), Vec::new());
    for (index, resource) in upserts.into_iter().enumerate() {
        if last.get(&resource.name) != Some(&index) {
            continue;
        }
        match VersionedRoute::try_from(resource) {
            Ok(route) => good.push(route),
            Err(rejected) => bad.push(rejected),
        }
    }
    (good, bad)
}

/// What is told of a refusal besides the NACK; nothing where no Agent or no version can be told by it.
fn refusal(rejected: &Rejected) -> Option<(AgentKey, Refusal)> {
    let version = Version::try_from(rejected.version.as_slice()).ok()?;
    Some((rejected.name.parse().ok()?, Refusal { version, reason: rejected.reason.to_string() }))
}

fn rejected_out(rejected: Rejected) -> wire::RejectedResource {
    wire::RejectedResource {
        reason: rejected.reason.to_string(),
        name: rejected.name,
        version: rejected.version,
    }
}

#[cfg(test)]
mod tests;
