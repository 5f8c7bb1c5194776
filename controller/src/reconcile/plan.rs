//! What is to be done about one child: pure.
//!
//! Owns the rules of ownership, of repair, and of giving way. Never writes: `reconcile::children` carries a
//! [`Step`] out and notes in [`ChildMemory`] what it did.
//!
//! 1. What is absent is created; what belongs to somebody else is left alone.
//! 2. What differs from what is wanted is applied, and the difference told.
//! 3. Whoever keeps changing it back is given way to for a while: two controllers in a fight would restart pods and
//!    load the API server without end.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::live::{Live, applied, replicas};
use crate::workload::{FieldPath, first_difference, only_replicas_differ};

/// A writer that undoes so many repairs within [`FIGHT`] is another controller, not a person.
const REPAIRS: usize = 3;

/// The time in which repairs are counted.
const FIGHT: Duration = Duration::from_mins(1);

/// How long another controller is given way to before the next attempt; twice that the next time.
pub(crate) const TRUCE: Duration = Duration::from_mins(5);

/// The longest truce: another controller that never ends costs two rollouts in this time.
const LONGEST_TRUCE: Duration = Duration::from_hours(1);

/// A child taken over from the Go controller that bears its fields again within this time: it still runs.
const STILL_RUNS: Duration = Duration::from_hours(2);

/// Between two repairs of `replicas`: another writer may be an autoscaler that somebody relies on.
pub(crate) const REPLICAS_PAUSE: Duration = Duration::from_secs(30);

/// How long a refusal by the API server is believed without asking again, if nothing changed.
const REFUSED_FOR: Duration = Duration::from_mins(10);

/// How long a child that is being deleted is waited for; its end is seen sooner.
pub(crate) const DELETION_PAUSE: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// It is as wanted.
    Keep,
    /// It is absent.
    Create,
    /// It differs.
    Apply {
        /// Whether others' Updates become ours first.
        take_over: bool,
        why: Why,
    },
    /// Look again after this time.
    Later(Duration),
    /// It belongs to somebody else.
    Foreign,
    /// It belongs to somebody else, and is about to go.
    Await,
    /// Another controller keeps changing it.
    Contested {
        /// The name it writes under.
        manager: String,
    },
    /// The API server refused just this before.
    Refused {
        /// With this message.
        message: String,
        /// It is asked again after this time.
        again: Duration,
    },
}

/// Why a child is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// Something else is wanted than when it was last written.
    Changed,
    /// The Go controller made it.
    TakenOver,
    /// Another size is wanted.
    Resized,
    /// Somebody changed `replicas`.
    ForeignReplicas,
    /// Somebody changed something else: the first field that differs.
    Repaired(FieldPath),
}

/// What is remembered of one child while this controller leads.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChildMemory {
    /// The size that was last written.
    pub(crate) replicas: Option<u32>,
    /// The hash of what was last written.
    applied: Option<String>,
    taken_over: Option<Instant>,
    /// The newest [`REPAIRS`] of them.
    repairs: VecDeque<Instant>,
    /// Who wrote what was repaired last, as far as is known.
    repaired_of: Option<String>,
    replicas_repaired: Option<Instant>,
    /// Since when, for how long, and to whom is given way.
    contested: Option<(Instant, Duration, String)>,
    /// How long the last truce was; they grow while the other writer stays.
    truce: Duration,
    refused: Option<(String, String, Instant)>,
}

// === impl Step ===

impl Step {
    /// What to do so that `live` becomes `wanted`, for the Agent with the uid `owner`.
    pub(crate) fn plan(
        wanted: &Value,
        live: Option<&Live>,
        owner: &str,
        memory: &ChildMemory,
        now: Instant,
    ) -> Self {
        let Some(live) = live else {
            return memory.refusal(wanted, now).unwrap_or(Self::Create);
        };
        if !live.is_child_of(owner) {
            let name = wanted.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            let vanishes = live.is_deleting() || live.is_left_over_of(name);
            return if vanishes { Self::Await } else { Self::Foreign };
        }
        if live.is_deleting() {
            return Self::Later(DELETION_PAUSE);
        }
        let Some(why) = why(wanted, live, memory) else { return Self::Keep };
        if let Some(refused) = memory.refusal(wanted, now) {
            return refused;
        }
        if let Some(manager) = memory.contested_by(live, &why, now) {
            return Self::Contested { manager };
        }
        if let (Why::ForeignReplicas, Some(repaired)) = (&why, memory.replicas_repaired) {
            let since = now.duration_since(repaired);
            if since < REPLICAS_PAUSE {
                return Self::Later(REPLICAS_PAUSE.saturating_sub(since));
            }
        }
        Self::Apply { take_over: live.is_to_be_taken_over(), why }
    }
}

/// Why `live` has to be written; `None` if it is as wanted.
fn why(wanted: &Value, live: &Live, memory: &ChildMemory) -> Option<Why> {
    if live.go_manager().is_some() {
        return Some(Why::TakenOver);
    }
    let path = first_difference(wanted, live.object())?;
    // Another hash is another wish, unless just this wish was written before: then somebody took our mark away.
    if live.applied() != applied(wanted) && memory.applied.as_deref() != applied(wanted) {
        return Some(Why::Changed);
    }
    if !only_replicas_differ(wanted, live.object()) {
        return Some(Why::Repaired(path));
    }
    // As we left it: the wish has changed. Unknown after a start: then too, as nobody can tell.
    if memory.replicas.is_none() || memory.replicas == live.replicas() {
        return Some(Why::Resized);
    }
    Some(Why::ForeignReplicas)
}

// === impl ChildMemory ===

impl ChildMemory {
    /// It was created or applied as `wanted`; `by`: who had written what was repaired.
    pub(crate) fn written(&mut self, wanted: &Value, why: Option<&Why>, by: Option<&str>, now: Instant) {
        self.replicas = replicas(wanted);
        self.applied = applied(wanted).map(str::to_owned);
        self.refused = None;
        self.contested = None;
        match why {
            Some(Why::TakenOver) => self.taken_over = Some(now),
            Some(Why::ForeignReplicas) => self.replicas_repaired = Some(now),
            Some(Why::Repaired(_)) => {
                self.repaired_of = by.map(str::to_owned);
                self.repairs.truncate(REPAIRS - 1);
                self.repairs.push_front(now);
            }
            Some(Why::Changed | Why::Resized) | None => {}
        }
    }

    /// It is as wanted: nobody fights.
    pub(crate) fn kept(&mut self, live: Option<&Live>) {
        self.contested = None;
        if self.replicas.is_none() {
            self.replicas = live.and_then(Live::replicas);
        }
        if self.applied.is_none() {
            self.applied = live.and_then(Live::applied).map(str::to_owned);
        }
    }

    /// The API server will not have `wanted`, and would say so again if it were asked; it is, after the time that
    /// this gives.
    pub(crate) fn refused(&mut self, wanted: &Value, message: &str, now: Instant) -> Duration {
        let hash = applied(wanted).unwrap_or_default().to_owned();
        self.refused = Some((hash, message.to_owned(), now));
        REFUSED_FOR
    }

    /// Another controller is given way to: from now on, or as before. Gives for how long still.
    pub(crate) fn give_way(&mut self, manager: &str, now: Instant) -> Duration {
        let (since, truce, _) = self.contested.get_or_insert_with(|| {
            self.truce = (self.truce * 2).clamp(TRUCE, LONGEST_TRUCE);
            (now, self.truce, manager.to_owned())
        });
        truce.saturating_sub(now.duration_since(*since))
    }

    fn refusal(&self, wanted: &Value, now: Instant) -> Option<Step> {
        let (hash, message, at) = self.refused.as_ref()?;
        let again = REFUSED_FOR.saturating_sub(now.duration_since(*at));
        let same = applied(wanted) == Some(hash.as_str()) && !again.is_zero();
        same.then(|| Step::Refused { message: message.clone(), again })
    }

    fn contested_by(&self, live: &Live, why: &Why, now: Instant) -> Option<String> {
        if let Some((since, truce, manager)) = &self.contested {
            // A wish of the Agent's author is carried out all the same.
            let stands = now.duration_since(*since) < *truce && !matches!(why, Why::Changed | Why::Resized);
            return stands.then(|| manager.clone());
        }
        let within = |at: &Instant, time| now.duration_since(*at) < time;
        match why {
            Why::TakenOver if self.taken_over.as_ref().is_some_and(|at| within(at, STILL_RUNS)) => {
                live.go_manager().map(ToOwned::to_owned)
            }
            Why::Repaired(_) if self.repairs.iter().filter(|at| within(at, FIGHT)).count() >= REPAIRS => {
                Some(self.repaired_of.clone().unwrap_or_else(|| "unknown".to_owned()))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
