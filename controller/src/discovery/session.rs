//! One gateway's stream, as a pure state machine: what it holds, and what to send next.
//!
//! Owns the knowledge of what the gateway holds, shard by shard, and which of our resources it refused. Never
//! does I/O, never waits, and keeps no queue: it always compares with the newest snapshot, so a slow gateway
//! skips what came in between.
//!
//! 1. [`Session::new`] starts from what the gateway says it holds.
//! 2. [`Session::next`] gives one response of bounded size, only while none is outstanding. The first one comes
//!    even if nothing differs, so that the gateway learns that it is complete; one comes when only the leader is
//!    another.
//! 3. [`Session::answer`] takes the answer: what was refused is not held, and is not sent again on this stream
//!    before it changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use krypton_discovery::{AgentKey, Version, VersionedRoute};

use crate::snapshot::{SHARDS, Shard, Snapshot, shard_of};

/// Changes in one response.
pub const MAX_CHANGES: usize = 2_000;

/// Encoded bytes of one response; one resource that is larger by itself goes alone.
pub const MAX_RESPONSE_BYTES: usize = 1 << 20;

/// What one gateway holds, as far as it told or acknowledged.
#[derive(Debug)]
pub struct Session {
    /// Always [`SHARDS`] of them.
    shards: Vec<HeldShard>,
    outstanding: Option<Outstanding>,
    /// The nonce of the newest response, 0 before the first.
    nonce: u64,
    /// Generation of the snapshot that the gateway last held as a whole.
    complete: Option<u64>,
    /// Whether the newest response said that more follow.
    more: bool,
    /// Which leader the newest response named.
    leader: Option<String>,
}

/// One response to a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// From 1, one more with each response.
    pub nonce: u64,
    /// Resources that are new or differ.
    pub upserts: Vec<VersionedRoute>,
    /// Names that are gone.
    pub removed: Vec<AgentKey>,
    /// Whether more responses follow before the gateway holds one whole snapshot.
    pub more: bool,
    /// Where the controller that leads takes reports; `None` while that is not known.
    pub leader: Option<String>,
}

/// A resource that the gateway refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The resource.
    pub key: AgentKey,
    /// Why; a sentence for a person.
    pub reason: String,
}

/// The gateway broke the protocol. Its stream is ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// It answered something other than the outstanding response.
    #[error("answer with nonce {got}, expected {}", .expected.map_or("none".to_owned(), |n| n.to_string()))]
    Nonce {
        /// What it answered.
        got: u64,
        /// What is outstanding, if anything is.
        expected: Option<u64>,
    },
    /// It refused a resource that was not in the response.
    #[error("resource {0} was refused but not sent")]
    NotSent(AgentKey),
}

/// What the gateway holds of one shard.
#[derive(Debug, Default)]
struct HeldShard {
    /// The shard that it was last brought to; nothing has to be compared while the snapshot still has this one.
    covered: Option<Arc<Shard>>,
    held: BTreeMap<AgentKey, Version>,
    /// Refused, and by what reason. The version held, if any, is an older one.
    rejected: BTreeMap<AgentKey, (Version, String)>,
}

#[derive(Debug)]
struct Outstanding {
    nonce: u64,
    /// The shards of `upserts` and `removed` are told by their keys.
    upserts: Vec<(AgentKey, Version)>,
    removed: Vec<AgentKey>,
    /// Shards that the gateway is brought to by this response.
    covers: Vec<(usize, Arc<Shard>)>,
    generation: u64,
}

/// A response while it is filled.
#[derive(Default)]
struct Chunk {
    upserts: Vec<VersionedRoute>,
    removed: Vec<AgentKey>,
    bytes: usize,
    covers: Vec<(usize, Arc<Shard>)>,
}

// === impl Session ===

impl Session {
    /// A session with a gateway that says it holds `held`. Of a name given twice the last counts.
    #[must_use]
    pub fn new(held: impl IntoIterator<Item = (AgentKey, Version)>) -> Self {
        let mut shards: Vec<HeldShard> = std::iter::repeat_with(HeldShard::default).take(SHARDS).collect();
        for (key, version) in held {
            shards[shard_of(key.as_str())].held.insert(key, version);
        }
        Self { shards, outstanding: None, nonce: 0, complete: None, more: true, leader: None }
    }

    /// The next response on the way to `snapshot` and to the knowledge of `leader`. `None` while one is
    /// outstanding, and when nothing differs.
    pub fn next(&mut self, snapshot: &Snapshot, leader: Option<&str>) -> Option<Response> {
        if self.outstanding.is_some() {
            return None;
        }
        let mut chunk = Chunk::default();
        let more = !self.fill(snapshot, &mut chunk);
        if chunk.is_empty() && !self.more && self.leader.as_deref() == leader {
            self.complete = Some(snapshot.generation());
            return None;
        }
        self.nonce += 1;
        self.more = more;
        self.leader = leader.map(ToOwned::to_owned);
        let Chunk { upserts, removed, covers, .. } = chunk;
        self.outstanding = Some(Outstanding {
            nonce: self.nonce,
            upserts: upserts.iter().map(|route| (route.key().clone(), route.version())).collect(),
            removed: removed.clone(),
            covers,
            generation: snapshot.generation(),
        });
        Some(Response { nonce: self.nonce, upserts, removed, more, leader: self.leader.clone() })
    }

    /// Takes the gateway's answer: all of the response is held but for `rejected`.
    ///
    /// # Errors
    /// When it is not the answer to what is outstanding. The session is of no use afterwards.
    pub fn answer(&mut self, nonce: u64, rejected: &[Rejection]) -> Result<(), ProtocolError> {
        let expected = self.outstanding.as_ref().map(|outstanding| outstanding.nonce);
        let Some(outstanding) = self.outstanding.take_if(|outstanding| outstanding.nonce == nonce) else {
            return Err(ProtocolError::Nonce { got: nonce, expected });
        };
        let mut rejected: HashMap<&AgentKey, &str> =
            rejected.iter().map(|r| (&r.key, r.reason.as_str())).collect();
        for (key, version) in outstanding.upserts {
            let shard = &mut self.shards[shard_of(key.as_str())];
            if let Some(reason) = rejected.remove(&key) {
                shard.rejected.insert(key, (version, reason.to_owned()));
            } else {
                shard.rejected.remove(&key);
                shard.held.insert(key, version);
            }
        }
        if let Some(key) = rejected.into_keys().next() {
            return Err(ProtocolError::NotSent(key.clone()));
        }
        for key in outstanding.removed {
            self.shards[shard_of(key.as_str())].held.remove(&key);
        }
        for (index, shard) in outstanding.covers {
            self.shards[index].cover(shard);
        }
        if !self.more {
            self.complete = Some(outstanding.generation);
        }
        Ok(())
    }

    /// Whether a response waits for its answer.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Generation of the snapshot that the gateway last held as a whole; `None` before the first.
    #[must_use]
    pub fn complete_generation(&self) -> Option<u64> {
        self.complete
    }

    /// How many resources the gateway holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.shards.iter().map(|shard| shard.held.len()).sum()
    }

    /// What the gateway refuses at present, and why.
    pub fn rejected(&self) -> impl Iterator<Item = (&AgentKey, &str)> {
        let shards = self.shards.iter().flat_map(|shard| &shard.rejected);
        shards.map(|(key, (_, reason))| (key, reason.as_str()))
    }

    /// Puts what differs into `chunk`; `false` if it was full before the end.
    fn fill(&mut self, snapshot: &Snapshot, chunk: &mut Chunk) -> bool {
        for (index, (shard, held)) in snapshot.shards().iter().zip(&mut self.shards).enumerate() {
            if held.covered.as_ref().is_some_and(|covered| Arc::ptr_eq(covered, shard)) {
                continue;
            }
            let before = chunk.len();
            if !held.diff_into(shard, chunk) {
                return false;
            }
            if chunk.len() == before {
                held.cover(Arc::clone(shard));
            } else {
                chunk.covers.push((index, Arc::clone(shard)));
            }
        }
        true
    }
}

// === impl HeldShard ===

impl HeldShard {
    /// Puts what differs from `shard` into `chunk`; `false` if it was full before the end.
    fn diff_into(&self, shard: &Shard, chunk: &mut Chunk) -> bool {
        for key in self.held.keys().filter(|key| !shard.contains_key(*key)) {
            if !chunk.remove(key) {
                return false;
            }
        }
        for (key, agent) in shard {
            let version = agent.route.version();
            let held = self.held.get(key) == Some(&version);
            let rejected = self.rejected.get(key).is_some_and(|(rejected, _)| *rejected == version);
            if !held && !rejected && !chunk.upsert(&agent.route) {
                return false;
            }
        }
        true
    }

    /// The gateway was brought to `shard`. What it refused of another version is of no interest any more.
    fn cover(&mut self, shard: Arc<Shard>) {
        self.rejected.retain(|key, (version, _)| {
            shard.get(key).is_some_and(|agent| agent.route.version() == *version)
        });
        self.covered = Some(shard);
    }
}

// === impl Chunk ===

impl Chunk {
    fn len(&self) -> usize {
        self.upserts.len() + self.removed.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there was room.
    fn upsert(&mut self, route: &VersionedRoute) -> bool {
        let fits = self.reserve(encoded_bytes(route));
        if fits {
            self.upserts.push(route.clone());
        }
        fits
    }

    /// Whether there was room.
    fn remove(&mut self, key: &AgentKey) -> bool {
        let fits = self.reserve(key.as_str().len() + 4);
        if fits {
            self.removed.push(key.clone());
        }
        fits
    }

    fn reserve(&mut self, bytes: usize) -> bool {
        let fits = self.is_empty()
            || (self.len() < MAX_CHANGES && self.bytes.saturating_add(bytes) <= MAX_RESPONSE_BYTES);
        if fits {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        fits
    }
}

/// At most so many bytes does `route` take in a message: an estimate from above, as encoding it to find out
/// would do the work twice.
fn encoded_bytes(route: &VersionedRoute) -> usize {
    // Tags, lengths, numbers at their longest, the version and a Service.
    const FIXED: usize = 160;
    // Tags, lengths, an IPv6 address and a port.
    const PER_ENDPOINT: usize = 32;
    let endpoints = &route.route().endpoints;
    let pods: usize = endpoints.iter().filter_map(|e| e.pod_uid()).map(|uid| uid.len()).sum();
    let text = route.key().as_str().len() + route.route().invocation_path.as_str().len();
    FIXED + text + endpoints.len() * PER_ENDPOINT + pods
}

#[cfg(test)]
mod tests;
