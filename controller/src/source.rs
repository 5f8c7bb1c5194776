//! Where Agents and their endpoints come from, as one stream of events.
//!
//! Owns the form of that stream and the report of how its sources fare. A source turns what it sees into the
//! index's own values at once, so that past this point nothing is unchecked; what it cannot turn is refused,
//! counted and named, and never disturbs the rest. Sources never compute routes.
//!
//! 1. A source buffers a complete list and sends it as one [`Change::Restarted`] of each kind.
//! 2. From then on it sends single changes, and a complete list again whenever it may have missed some.
//! 3. The channel is bounded ([`EVENT_CAPACITY`]): a source that is ahead of the index waits.

pub mod kube;
pub mod manifests;
mod report;

use crate::index::{AgentObject, ServiceObject, SliceObject};
use crate::object::{ObjectId, Scope};

pub use report::{FileProblem, Purpose, RefusedObject, SourceReport, Sources, WatchReport, WatchState};

/// Events that may wait for the index. A full channel makes the sources wait; nothing is lost.
pub const EVENT_CAPACITY: usize = 1024;

/// What happened to objects of one kind.
#[derive(Debug, Clone)]
pub enum SourceEvent {
    /// Agents changed.
    Agents(Change<AgentObject>),
    /// Slices of agents changed.
    EndpointSlices(Change<SliceObject>),
    /// Services of agents changed.
    Services(Change<ServiceObject>),
}

/// One change.
#[derive(Debug, Clone)]
pub enum Change<T> {
    /// The complete list of a scope: what is not in it is gone.
    Restarted {
        /// What the list covers.
        scope: Scope,
        /// Every good object.
        objects: Vec<T>,
        /// Objects that exist and could not be used: what is known of them stays.
        refused: Vec<ObjectId>,
    },
    /// This object is new or has changed.
    Apply(T),
    /// This object is gone, or is no longer one of ours.
    Delete(ObjectId),
}
