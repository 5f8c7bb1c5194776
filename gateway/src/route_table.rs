//! What the gateway knows of the Agents, and how sure it is of it.
//!
//! Owns: the routes, the load on each endpoint, and the [`Freshness`] of the whole. Never does I/O, never waits,
//! never reads a clock: time is passed in.
//!
//! 1. The discovery client holds the one [`RouteTableWriter`] and applies a resource at a time.
//! 2. A call asks its [`RouteTableHandle`] once, with the `namespace/name` cut out of its path, and gets the
//!    [`ActiveRoute`]; [`ActiveRoute::load`] gives the immutable [`RouteView`] that the call keeps to its end.
//! 3. A changed route swaps the view inside the `ActiveRoute` and touches nothing else. An added or a removed one
//!    copies its shard, a thousandth of the table. Running calls keep what they hold.

mod active;
mod endpoint;
#[cfg(test)]
pub(crate) mod test_util;

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use krypton_discovery::{AgentKey, EndpointPolicy, Version, VersionedRoute};

pub use active::{ActiveRoute, RefusedEndpoint, RouteView};
pub use endpoint::{CallKind, EndpointId, EndpointState, InFlight};

/// How many maps the table is cut into. Measured at 100,000 routes: a change takes 4 us with 1,024, 74 us with
/// 64, 7,800 us with one; a look-up takes the same with all.
const SHARDS: usize = 1024;

/// How long discovery may be gone before pod addresses count as stale. Longer than a controller's restart or a
/// change of leader; shorter than a cluster usually takes to give an address away again.
pub const STALE_AFTER: Duration = Duration::from_secs(30);

type Shard = HashMap<AgentKey, Arc<ActiveRoute>, foldhash::fast::RandomState>;

/// How sure the gateway is of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// No table yet: no call can be answered.
    Empty,
    /// It came from the snapshot file and no controller has confirmed it.
    FromDisk {
        /// When it was loaded.
        loaded: Instant,
        /// How old it was then.
        age: Duration,
    },
    /// Whole and kept up to date by a controller.
    Live,
    /// It was live until the stream to the controller was lost.
    Lost {
        /// When it was lost.
        since: Instant,
    },
}

/// Where a new call is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialMode {
    /// To a pod's address.
    Endpoints,
    /// To the address of the Agent's Service where it has one, since a pod's may belong to another pod by now.
    ClusterIp,
}

/// Reads the table. Cheap to clone; every clone sees the same table.
#[derive(Clone)]
pub struct RouteTableHandle(Arc<Shared>);

/// Changes the table. There is one, and it cannot be cloned.
pub struct RouteTableWriter {
    shared: Arc<Shared>,
    /// Checked here, so that nothing enters the table that must not be dialled.
    policy: EndpointPolicy,
    /// Hashes pods into groups of pooled connections. Seeded at random: the groups mean nothing elsewhere.
    groups: foldhash::quality::RandomState,
}

struct Shared {
    shards: Box<[ArcSwap<Shard>]>,
    /// Chooses the shard. Seeded at random, as the maps are: users choose the keys.
    hasher: foldhash::fast::RandomState,
    len: AtomicUsize,
    changes: AtomicU64,
    freshness: ArcSwap<Freshness>,
}

// === impl RouteTableHandle ===

impl RouteTableHandle {
    /// The route of the Agent `key`, spelled `namespace/name`. Allocates nothing.
    pub fn get(&self, key: &str) -> Option<Arc<ActiveRoute>> {
        self.0.shard(key).load().get(key).cloned()
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.0.len.load(Ordering::Relaxed)
    }

    /// Whether there is no route. Says nothing about whether there is a table: see [`Freshness::Empty`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many changes the table has seen since the start: its version, for people to compare.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }

    /// All routes, in no order. Each shard is read as it stands when the iterator gets there.
    pub fn iter(&self) -> impl Iterator<Item = Arc<ActiveRoute>> {
        self.0.iter()
    }

    /// The routes that were called at least once, in no order. Costs little for the others.
    pub fn iter_called(&self) -> impl Iterator<Item = Arc<ActiveRoute>> {
        let called = |route: &&Arc<ActiveRoute>| route.metrics_if_called().is_some();
        let of =
            move |shard: &ArcSwap<Shard>| shard.load().values().filter(called).cloned().collect::<Vec<_>>();
        self.0.shards.iter().flat_map(of)
    }

    /// How sure the table is.
    pub fn freshness(&self) -> Freshness {
        **self.0.freshness.load()
    }

    /// Whether there is a table to answer calls from, be it an old one.
    pub fn has_table(&self) -> bool {
        self.freshness() != Freshness::Empty
    }

    /// Where a call that begins at `now` is to be sent. Only a hint: a route without a ClusterIP has endpoints
    /// and nothing else, see [`RouteView::candidates`].
    pub fn dial_mode(&self, now: Instant) -> DialMode {
        match self.freshness() {
            Freshness::FromDisk { .. } => DialMode::ClusterIp,
            Freshness::Lost { since } if now.saturating_duration_since(since) >= STALE_AFTER => {
                DialMode::ClusterIp
            }
            Freshness::Empty | Freshness::Live | Freshness::Lost { .. } => DialMode::Endpoints,
        }
    }

    /// How long ago a controller last stood behind the table; zero while one does, `None` while there is no
    /// table.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        match self.freshness() {
            Freshness::Empty => None,
            Freshness::Live => Some(Duration::ZERO),
            Freshness::FromDisk { loaded, age } => Some(age + now.saturating_duration_since(loaded)),
            Freshness::Lost { since } => Some(now.saturating_duration_since(since)),
        }
    }
}

// === impl RouteTableWriter ===

impl RouteTableWriter {
    /// An empty table that takes endpoints which `policy` allows.
    pub fn new(policy: EndpointPolicy) -> Self {
        let shared = Shared {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            hasher: foldhash::fast::RandomState::default(),
            len: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            freshness: ArcSwap::from_pointee(Freshness::Empty),
        };
        let groups = foldhash::quality::RandomState::default();
        Self { shared: Arc::new(shared), policy, groups }
    }

    /// A reader of this table.
    pub fn handle(&self) -> RouteTableHandle {
        RouteTableHandle(Arc::clone(&self.shared))
    }

    /// Adds the route, or changes it where it differs. Endpoints that were there before keep their load. Returns
    /// the addresses that the policy refuses now and did not before; they are left out.
    pub fn upsert(&mut self, resource: VersionedRoute) -> Vec<RefusedEndpoint> {
        let shard = self.shared.shard(resource.key().as_str());
        let present = shard.load().get(resource.key()).cloned();
        let previous = present.as_ref().map(|route| route.load());
        if previous.as_ref().is_some_and(|view| view.version() == resource.version()) {
            return Vec::new();
        }
        let view = RouteView::build(resource, previous.as_deref(), &self.policy, &self.groups);
        let known = previous.as_ref().map_or(&[][..], |view| view.refused());
        let refused = view.refused().iter().filter(|refused| !known.contains(refused)).cloned().collect();
        if let Some(route) = present {
            route.store(view);
        } else {
            let mut routes = Shard::clone(&shard.load());
            routes.insert(view.key().clone(), Arc::new(ActiveRoute::new(view)));
            shard.store(Arc::new(routes));
            self.shared.len.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.changes.fetch_add(1, Ordering::Relaxed);
        refused
    }

    /// Removes the route `key`. Calls that run on it go on. Returns whether it was there.
    pub fn remove(&mut self, key: &str) -> bool {
        let shard = self.shared.shard(key);
        if !shard.load().contains_key(key) {
            return false;
        }
        let mut routes = Shard::clone(&shard.load());
        routes.remove(key);
        shard.store(Arc::new(routes));
        self.shared.len.fetch_sub(1, Ordering::Relaxed);
        self.shared.changes.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Says how sure the table is.
    pub fn set_freshness(&mut self, freshness: Freshness) {
        self.shared.freshness.store(Arc::new(freshness));
    }

    /// What the table holds: what a reconnecting gateway reports.
    pub fn held(&self) -> impl Iterator<Item = (AgentKey, Version)> {
        self.shared.iter().map(|route| (route.key().clone(), route.load().version()))
    }
}

// === impl Shared ===

impl Shared {
    fn shard(&self, key: &str) -> &ArcSwap<Shard> {
        // The upper half: the maps take their buckets from the lower one of a hash of their own.
        let hash = self.hasher.hash_one(key) >> 32;
        &self.shards[usize::try_from(hash).unwrap_or_default() % SHARDS]
    }

    fn iter(&self) -> impl Iterator<Item = Arc<ActiveRoute>> {
        self.shards.iter().flat_map(|shard| shard.load().values().cloned().collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests;
