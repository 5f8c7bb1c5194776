//! Which gateways hold which routes: pure, synchronous, one writer.
//!
//! Owns what each gateway that reports holds and refuses, the snapshot that this is compared with, and the names of
//! the Agents for which the answer may be another than when they were last asked for. Never does I/O, never reads a
//! clock, and keeps nothing of its answers: whether one that was given sticks is for the writer of the status.
//!
//! 1. A gateway joins with all that it holds, says what changes, and leaves.
//! 2. A newer snapshot changes what is wanted; only shards that are another allocation are looked at.
//! 3. [`Programmed::state`] compares the two for one Agent; [`Programmed::take_changed`] says for which to ask.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use krypton_discovery::{AgentKey, Version};

use crate::snapshot::{AgentRoute, Shard, Snapshot};

/// Gateways that are named as missing; the rest is counted.
pub const NAMED: usize = 5;

/// Whether the gateways hold the route of one generation of an Agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgrammedState {
    /// Not to be said yet: this controller leads for too short a time to know the gateways, or its snapshot is not at
    /// that generation.
    Unsettled,
    /// No gateway reports.
    NoGateways,
    /// Every gateway that reports holds it.
    Held,
    /// Some gateways do not hold it yet.
    Pending {
        /// The first of them by name, at most [`NAMED`].
        missing: Vec<String>,
        /// How many there are besides.
        more: usize,
    },
    /// A gateway refuses it; the first by name.
    Rejected {
        /// Its name.
        gateway: String,
        /// Its reason, a sentence for a person.
        reason: String,
    },
}

/// Tells streams of gateways apart. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// What a gateway holds and refuses.
#[derive(Debug, Default)]
pub struct Holding {
    held: HashMap<AgentKey, Version>,
    rejected: HashMap<AgentKey, (Version, String)>,
}

/// What changed at a gateway: carried out in the order of the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Of these nothing is held or refused any more.
    pub removed: Vec<AgentKey>,
    /// These are held in this version, and not refused.
    pub held: Vec<(AgentKey, Version)>,
    /// These are refused in this version, with the reason; what is held of them stays.
    pub rejected: Vec<(AgentKey, Version, String)>,
}

/// What all gateways hold, and what they should.
#[derive(Debug, Default)]
pub struct Programmed {
    /// `None` until there is one.
    snapshot: Option<Snapshot>,
    /// By name: of two streams of one gateway the newer counts.
    members: BTreeMap<String, Member>,
    settled: bool,
    changed: BTreeSet<AgentKey>,
}

#[derive(Debug)]
struct Member {
    stream: StreamId,
    holding: Holding,
}

// === impl Holding ===

impl Holding {
    /// Refusals that are kept of one gateway. Of further ones it only counts that the resource is not held.
    const MAX_REJECTED: usize = 4_096;

    /// Carries `delta` out.
    pub fn apply(&mut self, delta: Delta) {
        for key in delta.removed {
            self.held.remove(&key);
            self.rejected.remove(&key);
        }
        for (key, version) in delta.held {
            self.rejected.remove(&key);
            self.held.insert(key, version);
        }
        for (key, version, reason) in delta.rejected {
            if self.rejected.len() < Self::MAX_REJECTED || self.rejected.contains_key(&key) {
                self.rejected.insert(key, (version, reason));
            }
        }
    }

    /// How many resources are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many resources are refused.
    #[must_use]
    pub fn rejected(&self) -> usize {
        self.rejected.len()
    }

    fn holds(&self, key: &AgentKey, wanted: Version) -> bool {
        self.held.get(key) == Some(&wanted)
    }

    /// Why `wanted` is refused, if it is.
    fn rejects(&self, key: &AgentKey, wanted: Version) -> Option<&str> {
        let rejected = self.rejected.get(key).filter(|(version, _)| *version == wanted);
        rejected.map(|(_, reason)| reason.as_str())
    }
}

// === impl Delta ===

impl Delta {
    /// Every Agent that it names.
    pub fn keys(&self) -> impl Iterator<Item = &AgentKey> {
        let held = self.held.iter().map(|(key, _)| key);
        self.removed.iter().chain(held).chain(self.rejected.iter().map(|(key, _, _)| key))
    }
}

// === impl Programmed ===

impl Programmed {
    /// Whether the gateways hold the route that was computed from `generation` of the Agent `key`.
    #[must_use]
    pub fn state(&self, key: &AgentKey, generation: i64) -> ProgrammedState {
        let wanted = self.snapshot.as_ref().and_then(|snapshot| snapshot.agent(key.as_str()));
        let Some(wanted) = wanted.filter(|agent| agent.generation == generation) else {
            return ProgrammedState::Unsettled;
        };
        let wanted = wanted.route.version();
        let rejects = |(node, member): (&String, &Member)| {
            member.holding.rejects(key, wanted).map(|reason| (node.clone(), reason.to_owned()))
        };
        if let Some((gateway, reason)) = self.members.iter().find_map(rejects) {
            return ProgrammedState::Rejected { gateway, reason };
        }
        let mut missing = self.members.iter().filter(|(_, member)| !member.holding.holds(key, wanted));
        let named: Vec<String> = missing.by_ref().take(NAMED).map(|(node, _)| node.clone()).collect();
        match (self.members.is_empty(), named.is_empty()) {
            (false, true) => ProgrammedState::Held,
            _ if !self.settled => ProgrammedState::Unsettled,
            (true, _) => ProgrammedState::NoGateways,
            (false, false) => ProgrammedState::Pending { missing: named, more: missing.count() },
        }
    }

    /// The Agents whose state may be another than when this was last called, each once.
    pub fn take_changed(&mut self) -> BTreeSet<AgentKey> {
        std::mem::take(&mut self.changed)
    }

    /// Whether [`Self::take_changed`] has something to give.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// From here on it counts who has not joined.
    pub fn settle(&mut self) {
        if !self.settled {
            self.settled = true;
            // Told again are only those for which "not to be said yet" ends.
            self.note(|members, key, wanted| {
                members.is_empty() || members.values().any(|member| !member.holding.holds(key, wanted))
            });
        }
    }

    /// A term begins: who is not there may only not have come yet. Every Agent is to be asked for.
    pub fn begin_term(&mut self) {
        self.settled = false;
        self.note(|_, _, _| true);
    }

    /// A term ends, and with it the interest in the answers. The gateways leave by themselves.
    pub fn end_term(&mut self) {
        self.settled = false;
        self.changed.clear();
    }

    /// A gateway has told all that it holds. One of the same name that is there already leaves.
    pub fn join(&mut self, node: &str, stream: StreamId, holding: Holding) {
        let is_first = self.members.is_empty();
        let member = Member { stream, holding };
        let old = self.members.insert(node.to_owned(), member);
        self.note(|members, key, wanted| {
            let now = members.get(node).map(|member| &member.holding);
            let old = old.as_ref().map(|member| &member.holding);
            is_first || differs(old, now, key, wanted)
        });
    }

    /// The gateway of that stream is gone; nothing if another took its place.
    pub fn leave(&mut self, node: &str, stream: StreamId) {
        if !self.is_member(node, stream) {
            return;
        }
        let Some(old) = self.members.remove(node) else { return };
        self.note(|members, key, wanted| {
            members.is_empty() || differs(Some(&old.holding), None, key, wanted)
        });
    }

    /// Carries out what a gateway says; nothing if it is not a member. Gives how much it holds now.
    pub fn apply(&mut self, node: &str, stream: StreamId, delta: Delta) -> Option<&Holding> {
        let member = self.members.get_mut(node).filter(|member| member.stream == stream)?;
        let wanted_of = |key: &AgentKey| {
            let agent = self.snapshot.as_ref()?.agent(key.as_str())?;
            Some(agent.route.version())
        };
        let stands = |holding: &Holding, key: &AgentKey| {
            let wanted = wanted_of(key)?;
            Some((holding.holds(key, wanted), holding.rejects(key, wanted).map(ToOwned::to_owned)))
        };
        let named: BTreeSet<AgentKey> = delta.keys().cloned().collect();
        let before: Vec<_> = named.iter().map(|key| stands(&member.holding, key)).collect();
        member.holding.apply(delta);
        for (key, before) in named.into_iter().zip(before) {
            if stands(&member.holding, &key) != before {
                self.changed.insert(key);
            }
        }
        Some(&member.holding)
    }

    /// Whether `stream` is the one that counts for `node`.
    #[must_use]
    pub fn is_member(&self, node: &str, stream: StreamId) -> bool {
        self.members.get(node).is_some_and(|member| member.stream == stream)
    }

    /// How many gateways there are.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// What `node` holds, `None` where it is not a member.
    #[must_use]
    pub fn holding(&self, node: &str) -> Option<&Holding> {
        self.members.get(node).map(|member| &member.holding)
    }

    /// What gateways should hold. Gives the Agents that are gone since the snapshot before.
    pub fn set_snapshot(&mut self, snapshot: Snapshot) -> Vec<AgentKey> {
        let mut gone = Vec::new();
        let empty = Arc::new(Shard::new());
        let old = self.snapshot.take();
        for (index, new) in snapshot.shards().iter().enumerate() {
            let old = old.as_ref().map_or(&empty, |old| &old.shards()[index]);
            if Arc::ptr_eq(old, new) {
                continue;
            }
            self.changed.extend(new.iter().filter(|(key, agent)| old.get(*key) != Some(agent)).map(key_of));
            gone.extend(old.iter().filter(|(key, _)| !new.contains_key(*key)).map(key_of));
        }
        // Whoever asks for one that is gone is told nothing; there is no reason to wake anybody.
        for key in &gone {
            self.changed.remove(key);
        }
        self.snapshot = Some(snapshot);
        gone
    }

    /// The newest snapshot, `None` until there is one.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Notes every Agent of the snapshot for which `is_touched`, told the version that is wanted.
    fn note(&mut self, is_touched: impl Fn(&BTreeMap<String, Member>, &AgentKey, Version) -> bool) {
        let routes = self.snapshot.iter().flat_map(Snapshot::iter);
        let touched = routes.filter(|route| is_touched(&self.members, route.key(), route.version()));
        self.changed.extend(touched.map(|route| route.key().clone()));
    }
}

/// Whether the state of an Agent may be another with `new` in place of `old`. A gateway that is not there stands in
/// nobody's way, just as one that holds what is wanted.
fn differs(old: Option<&Holding>, new: Option<&Holding>, key: &AgentKey, wanted: Version) -> bool {
    let missing = |holding: Option<&Holding>| holding.is_some_and(|holding| !holding.holds(key, wanted));
    let rejects =
        |holding: Option<&Holding>| holding.and_then(|holding| holding.rejects(key, wanted)).is_some();
    missing(old) != missing(new) || rejects(old) || rejects(new)
}

fn key_of((key, _): (&AgentKey, &AgentRoute)) -> AgentKey {
    key.clone()
}

#[cfg(test)]
mod tests;
