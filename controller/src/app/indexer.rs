//! The one task that owns the index: takes in events, publishes snapshots.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::index::Index;
use crate::metrics::Metrics;
use crate::snapshot::Snapshot;
use crate::source::{EVENT_CAPACITY, RefusedObject, SourceEvent, Sources};

/// Runs until every source or every reader is gone. Events that are there together make one snapshot.
pub(super) async fn run(
    mut index: Index,
    mut events: mpsc::Receiver<SourceEvent>,
    snapshots: watch::Sender<Option<Snapshot>>,
    sources: Sources,
    metrics: Arc<Metrics>,
) {
    let mut batch = Vec::with_capacity(EVENT_CAPACITY);
    while events.recv_many(&mut batch, EVENT_CAPACITY).await > 0 {
        let mut slices_changed = false;
        for event in batch.drain(..) {
            slices_changed |= matches!(event, SourceEvent::EndpointSlices(_));
            index.apply(event);
        }
        if let Some(snapshot) = index.commit() {
            metrics.set_snapshot(&snapshot);
            if snapshots.borrow().is_none() {
                log::info!(agents = snapshot.len(), endpoints = snapshot.endpoints();
                    "First snapshot is complete");
            }
            snapshots.send_replace(Some(snapshot));
        }
        if slices_changed {
            report_refused(&mut index, &sources);
        }
    }
}

fn report_refused(index: &mut Index, sources: &Sources) {
    for (slice, refused) in index.take_newly_refused() {
        let first = refused.first().map(ToString::to_string).unwrap_or_default();
        log::warn!(slice:% = slice, count = refused.len(), first; "Endpoints are refused");
    }
    let count = index.refused().map(|(_, refused)| refused.len()).sum();
    let slices = index.refused().map(|(slice, refused)| {
        let first = refused.first().map(ToString::to_string).unwrap_or_default();
        RefusedObject { object: slice.to_string(), reason: format!("{} refused; {first}", refused.len()) }
    });
    sources.set_refused_endpoints(count, slices);
}
