//! From objects to routes: pure, synchronous, one writer.
//!
//! Owns what is known of Agents, slices and Services, and the newest [`Snapshot`]. Never does I/O, never waits,
//! never logs. Its result depends on the objects alone, not on the order in which they came.
//!
//! 1. [`Index::apply`] takes one event and notes which Agents it touches.
//! 2. [`Index::commit`] computes the routes of those, and gives a new snapshot if any of them changed.
//! 3. Nothing is given before every kind has had its first complete list: half a table would be worse than the
//!    one a gateway already has.

mod agents;
mod endpoints;
mod services;
pub(crate) mod table;

use std::collections::{BTreeSet, HashSet};

use krypton_discovery::{AgentKey, Route, VersionedRoute};

pub use agents::{AgentObject, AgentProblem};
pub use endpoints::{RefusedEndpoint, RefusedReason, SliceObject};
pub use services::ServiceObject;
pub use table::Record;

use crate::object::{Kind, ObjectId, Scope};
use crate::snapshot::{AgentRoute, Snapshot};
use crate::source::{Change, SourceEvent};
use table::Table;

/// What is known, and the routes that follow from it.
#[derive(Debug)]
pub struct Index {
    agents: Table<AgentObject>,
    slices: Table<SliceObject>,
    services: Table<ServiceObject>,
    /// Lists that have not come yet.
    awaited: HashSet<(Kind, Scope)>,
    /// Agents whose route may differ from the snapshot's.
    touched: BTreeSet<AgentKey>,
    /// Slices with refused endpoints that were not refused before.
    newly_refused: Vec<(ObjectId, Vec<RefusedEndpoint>)>,
    snapshot: Snapshot,
    /// Whether the first snapshot was given.
    published: bool,
}

// === impl Index ===

impl Index {
    /// An empty index that waits for every kind in each of `scopes`.
    #[must_use]
    pub fn new(scopes: &[Scope]) -> Self {
        let awaited = Kind::ROUTED.into_iter().flat_map(|kind| scopes.iter().map(move |s| (kind, s.clone())));
        Self {
            agents: Table::default(),
            slices: Table::default(),
            services: Table::default(),
            awaited: awaited.collect(),
            touched: BTreeSet::new(),
            newly_refused: Vec::new(),
            snapshot: Snapshot::default(),
            published: false,
        }
    }

    /// Takes in one event.
    pub fn apply(&mut self, event: SourceEvent) {
        if let Some(list) = list_of(&event) {
            self.awaited.remove(&list);
        }
        match event {
            SourceEvent::Agents(change) => self.agents.apply(change, &mut self.touched),
            SourceEvent::Services(change) => self.services.apply(change, &mut self.touched),
            SourceEvent::EndpointSlices(change) => {
                self.note_refused(&change);
                self.slices.apply(change, &mut self.touched);
            }
        }
    }

    /// The snapshot after all that was taken in, `None` if it is the one given before or cannot be given yet.
    pub fn commit(&mut self) -> Option<Snapshot> {
        if !self.awaited.is_empty() {
            return None;
        }
        let touched = std::mem::take(&mut self.touched);
        let changes = touched.into_iter().map(|key| {
            let route = self.build_route(&key);
            (key, route)
        });
        let next = self.snapshot.with(changes);
        if let Some(next) = next {
            self.snapshot = next;
        } else if self.published {
            return None;
        }
        self.published = true;
        Some(self.snapshot.clone())
    }

    /// Lists that have not come yet. Empty once the index is complete.
    #[must_use]
    pub fn awaited(&self) -> &HashSet<(Kind, Scope)> {
        &self.awaited
    }

    /// Endpoints refused since the last call, by slice. An endpoint that stays refused is told once.
    pub fn take_newly_refused(&mut self) -> Vec<(ObjectId, Vec<RefusedEndpoint>)> {
        std::mem::take(&mut self.newly_refused)
    }

    /// Every slice that has refused endpoints.
    pub fn refused(&self) -> impl Iterator<Item = (&ObjectId, &[RefusedEndpoint])> {
        self.slices.iter().filter(|s| !s.refused().is_empty()).map(|s| (s.id(), s.refused()))
    }

    fn build_route(&self, key: &AgentKey) -> Option<AgentRoute> {
        let agent = self.agents.of(key).next()?;
        let endpoints = endpoints::merge(self.slices.of(key));
        let ipv4 = endpoints.first().map(|endpoint| endpoint.address().is_ipv4());
        let route = Route {
            service: self.services.of(key).find_map(|service| service.address(ipv4)).cloned(),
            endpoints,
            ..agent.template().clone()
        };
        let route = VersionedRoute::new(key.clone(), route);
        Some(AgentRoute { route, generation: agent.generation() })
    }

    fn note_refused(&mut self, change: &Change<SliceObject>) {
        let slices = match change {
            Change::Apply(slice) => std::slice::from_ref(slice),
            Change::Restarted { objects, .. } => objects.as_slice(),
            Change::Delete(_) => &[],
        };
        for slice in slices.iter().filter(|slice| !slice.refused().is_empty()) {
            let known = self.slices.get(slice.id()).map_or(&[][..], SliceObject::refused);
            let new: Vec<_> = slice.refused().iter().filter(|refused| !known.contains(refused)).collect();
            if !new.is_empty() {
                self.newly_refused.push((slice.id().clone(), new.into_iter().cloned().collect()));
            }
        }
    }
}

/// The list that `event` completes.
fn list_of(event: &SourceEvent) -> Option<(Kind, Scope)> {
    let (kind, scope) = match event {
        SourceEvent::Agents(Change::Restarted { scope, .. }) => (Kind::Agent, scope),
        SourceEvent::EndpointSlices(Change::Restarted { scope, .. }) => (Kind::EndpointSlice, scope),
        SourceEvent::Services(Change::Restarted { scope, .. }) => (Kind::Service, scope),
        _ => return None,
    };
    Some((kind, scope.clone()))
}

#[cfg(test)]
mod tests;
