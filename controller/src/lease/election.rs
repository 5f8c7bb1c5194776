//! Who leads: one candidate's side of it.
//!
//! Owns every rule of the election. No I/O and no clock: whoever drives it tells the time, makes the one call it
//! asks for, and says how that ended.
//!
//! 1. A claim is a write that succeeds only on the version it is based on. Until the give-up time after it was
//!    *sent*, its maker leads, provided that the Lease is known to have shown it.
//! 2. A standby takes over when it has seen the same claim for the whole lease duration, by its own clock. Nothing
//!    newer was written when that write succeeds, so the last claim that counted was sent before the standby first
//!    saw it: the old leader gave up before, even if its clock runs a quarter slower.
//! 3. A claim whose answer was lost counts from its own sending, once a read shows it.
//! 4. A Lease that nobody holds is taken at once; a leader empties it only when its tasks have ended.

use std::time::Duration;

use super::pace::Pace;
use super::record::{Answer, Call, Claim, LEASE_DURATION, Moment, Record};

/// A leader renews this long after it sent its last good claim: three tries fit before [`GIVE_UP`].
pub(super) const RENEW: Duration = Duration::from_secs(2);

/// A leader stops this long after it sent its last good claim. What is left to [`LEASE_DURATION`] is for writes
/// under way and for clocks of different speed.
pub(super) const GIVE_UP: Duration = Duration::from_secs(7);

/// A standby reads at least this often; the watch makes it read at once when something changed.
const POLL: Duration = Duration::from_secs(2);

/// A candidate that shall stop tries to empty the Lease for this long. Later it is as good as expired.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);

/// Claims without an answer that are remembered; older ones no longer help to stay the leader.
const MAX_UNCONFIRMED: usize = 4;

/// One candidate.
#[derive(Debug)]
pub(super) struct Candidate {
    identity: String,
    address: String,
    pace: Pace,
    role: Role,
    seen: Seen,
    /// Whether a write may be based on `seen`. If not, a read comes first.
    fresh: bool,
    /// A Lease that somebody held was there: one that is gone was deleted, not never made.
    met_holder: bool,
    under_way: Option<UnderWay>,
    /// Claims that may have been made: their marks, and when they were sent.
    unconfirmed: Vec<(i64, Moment)>,
    last_stamp: i64,
    last_read: Option<Moment>,
    last_term: i32,
    rung: bool,
    /// Since when it shall stop.
    stopping: Option<Moment>,
}

/// What a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It does not lead, and none of its leader tasks runs.
    Standby,
    /// It leads.
    Leading {
        /// The number of this term: one more than that of the term before, whoever led it.
        term: i32,
        /// When the newest claim that counts was sent.
        claimed: Moment,
    },
    /// It no longer leads; its leader tasks may not have ended yet.
    Ending(Why),
}

/// Why a leader no longer leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// No renewal succeeded in time.
    NotRenewed,
    /// The Lease shows somebody else, or nobody.
    Taken,
    /// It shall stop.
    Stopping,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Make this call; report its end with [`Candidate::answered`].
    Call(Call),
    /// Wait for something to report, at most until then.
    Wait(Moment),
    /// It has stopped, and the Lease does not show it, if that could be had.
    End,
}

/// The Lease as it was last seen.
#[derive(Debug)]
enum Seen {
    Nothing,
    Absent { since: Moment },
    Lease { record: Record, since: Moment },
}

#[derive(Debug, Clone, Copy)]
enum UnderWay {
    Read,
    /// A write of a claim with this mark, sent then.
    Write {
        stamp: i64,
        sent: Moment,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intent {
    Read,
    Acquire,
    Renew { term: i32 },
    Release,
}

// === impl Candidate ===

impl Candidate {
    /// A standby that has seen nothing. `identity` must be this process's alone; `seed` is for the jitter of pauses.
    pub(super) fn new(identity: String, address: String, seed: u64) -> Self {
        Self {
            identity,
            address,
            pace: Pace::new(seed),
            role: Role::Standby,
            seen: Seen::Nothing,
            fresh: false,
            met_holder: false,
            under_way: None,
            unconfirmed: Vec::new(),
            last_stamp: i64::MIN,
            last_read: None,
            last_term: 0,
            rung: false,
            stopping: None,
        }
    }

    /// What it is.
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// Who holds the Lease, as far as is known and not expired: identity and address.
    pub(super) fn holder(&self, now: Moment) -> Option<(&str, Option<&str>)> {
        if matches!(self.role, Role::Leading { .. }) {
            return Some((&self.identity, Some(&self.address)));
        }
        match &self.seen {
            Seen::Lease { record, since } if now < *since + record.duration => {
                let holder = record.claim.holder.as_deref().filter(|holder| *holder != self.identity)?;
                Some((holder, record.claim.address.as_deref()))
            }
            _ => None,
        }
    }

    /// What to do at `now`. `wall` is the time of day in microseconds, for people who read the Lease.
    pub(super) fn step(&mut self, now: Moment, wall: i64) -> Step {
        if let Role::Leading { claimed, .. } = self.role
            && now >= claimed + GIVE_UP
        {
            self.role = Role::Ending(Why::NotRenewed);
        }
        if self.under_way.is_none() {
            if std::mem::take(&mut self.rung) {
                self.fresh = false;
                self.pace.rung(self.last_read);
            }
            match self.intent(now) {
                Some((at, intent)) if now >= at.max(self.pace.not_before()) => {
                    return Step::Call(self.call(intent, now, wall));
                }
                None if self.has_stopped() => return Step::End,
                _ => {}
            }
        }
        Step::Wait(self.wake(now))
    }

    /// The call under way has ended.
    pub(super) fn answered(&mut self, now: Moment, answer: Answer) {
        let Some(call) = self.under_way.take() else { return };
        // A claim under way may have been made, but for what the answer says.
        if let UnderWay::Write { stamp, sent } = call
            && matches!(answer, Answer::Lease(_) | Answer::Failed)
        {
            if self.unconfirmed.len() == MAX_UNCONFIRMED {
                self.unconfirmed.remove(0);
            }
            self.unconfirmed.push((stamp, sent));
        }
        match (call, answer) {
            (UnderWay::Read, Answer::Lease(record)) => {
                self.pace.read_succeeded();
                self.see(now, record);
            }
            (UnderWay::Read, Answer::Absent) => {
                self.pace.read_succeeded();
                self.fresh = true;
                if !matches!(self.seen, Seen::Absent { .. }) {
                    self.seen = Seen::Absent { since: now };
                }
            }
            (UnderWay::Read, Answer::Failed | Answer::Conflict) => self.pace.read_failed(now),
            (UnderWay::Write { .. }, Answer::Lease(record)) => {
                self.pace.writes_are_fine();
                self.see(now, record);
                self.unconfirmed.clear();
            }
            // The Lease is not as it was when last seen: a read must say how it is.
            (UnderWay::Write { .. }, Answer::Absent | Answer::Conflict) => {
                self.fresh = false;
                self.pace.write_conflicted(now);
            }
            // Tried again as it is: if this one was made after all, the next is a conflict.
            (UnderWay::Write { .. }, Answer::Failed) => self.pace.write_failed(now),
        }
    }

    /// The watch says that somebody else changed the Lease, or that it is gone. It may be late.
    pub(super) fn rung(&mut self) {
        self.rung = true;
    }

    /// The tasks of the term that ended are over.
    pub(super) fn tasks_ended(&mut self) {
        if matches!(self.role, Role::Ending(_)) {
            self.role = Role::Standby;
        }
    }

    /// It shall stop: lead no longer, and leave the Lease to others.
    pub(super) fn stop(&mut self, now: Moment) {
        self.stopping.get_or_insert(now);
        if matches!(self.role, Role::Leading { .. }) {
            self.role = Role::Ending(Why::Stopping);
        }
    }

    /// What it wants to do next, and when. `None`: nothing before something is reported.
    fn intent(&self, now: Moment) -> Option<(Moment, Intent)> {
        let mine = matches!(&self.seen, Seen::Lease { record, .. }
            if record.claim.holder.as_deref() == Some(self.identity.as_str()));
        let poll = (self.last_read.map_or(now, |read| read + POLL), Intent::Read);
        match self.role {
            Role::Leading { .. } | Role::Standby if !self.fresh => {
                let moot = self.stopping.is_some() && (self.last_stamp == i64::MIN || self.is_late(now));
                (!moot).then_some((now, Intent::Read))
            }
            // A deleted Lease is put back before anybody takes it for the first start.
            Role::Leading { term, .. } if matches!(self.seen, Seen::Absent { .. }) => {
                Some((now, Intent::Renew { term }))
            }
            Role::Leading { term, claimed } => Some((claimed + RENEW, Intent::Renew { term })),
            Role::Ending(_) => self.stopping.is_none().then_some(poll),
            Role::Standby if self.stopping.is_some() => {
                (mine && !self.is_late(now)).then_some((now, Intent::Release))
            }
            Role::Standby => {
                let free = match &self.seen {
                    Seen::Nothing => return Some(poll),
                    // Who has never seen a holder cannot tell a deleted Lease from the first start of all.
                    Seen::Absent { since } if self.met_holder => *since + LEASE_DURATION,
                    Seen::Absent { .. } => now,
                    Seen::Lease { record, .. } if mine || record.claim.holder.is_none() => now,
                    Seen::Lease { record, since } => *since + record.duration,
                };
                let acquire = (free, Intent::Acquire);
                Some(if free <= poll.0.max(now) { acquire } else { poll })
            }
        }
    }

    /// Nothing is left to do for one that shall stop.
    fn has_stopped(&self) -> bool {
        self.stopping.is_some() && self.role == Role::Standby
    }

    fn is_late(&self, now: Moment) -> bool {
        self.stopping.is_some_and(|since| now >= since + RELEASE_WITHIN)
    }

    fn call(&mut self, intent: Intent, now: Moment, wall: i64) -> Call {
        let (holder, transitions) = match intent {
            Intent::Read => {
                self.last_read = Some(now);
                self.under_way = Some(UnderWay::Read);
                return Call::Read;
            }
            Intent::Acquire => (true, self.next_term()),
            Intent::Renew { term } => (true, term),
            Intent::Release => (false, self.transitions()),
        };
        // Grows even if the clock of the day goes back: two claims must never look like one.
        let stamp = wall.max(self.last_stamp.saturating_add(1));
        self.last_stamp = stamp;
        self.under_way = Some(UnderWay::Write { stamp, sent: now });
        let claim = Claim {
            holder: holder.then(|| self.identity.clone()),
            stamp: Some(stamp),
            transitions,
            address: holder.then(|| self.address.clone()),
        };
        match &self.seen {
            Seen::Lease { record, .. } => Call::Replace { version: record.version.clone(), claim },
            Seen::Nothing | Seen::Absent { .. } => Call::Create(claim),
        }
    }

    fn transitions(&self) -> i32 {
        match &self.seen {
            Seen::Lease { record, .. } => record.claim.transitions.max(0),
            Seen::Nothing | Seen::Absent { .. } => self.last_term,
        }
    }

    /// A number that no term of ours has had just before: a Lease made anew begins to count anew.
    fn next_term(&self) -> i32 {
        let after = |number: i32| number.checked_add(1).unwrap_or(1);
        let next = after(self.transitions());
        if next == self.last_term { after(next) } else { next }
    }

    /// Takes in what the Lease is now.
    fn see(&mut self, now: Moment, record: Record) {
        let known = match &self.seen {
            Seen::Lease { record: known, since } if known.claim.is_same(&record.claim) => Some(*since),
            _ => None,
        };
        let claim = &record.claim;
        self.met_holder |= claim.holder.is_some();
        if claim.holder.as_deref() == Some(self.identity.as_str()) {
            let counts = self.unconfirmed.iter().find(|(stamp, _)| claim.stamp == Some(*stamp));
            if let Some((_, sent)) = counts {
                self.confirm(now, *sent, claim.transitions);
            }
        } else {
            if matches!(self.role, Role::Leading { .. }) {
                self.role = Role::Ending(Why::Taken);
            }
            if known.is_none() {
                self.pace.writes_are_fine();
            }
        }
        self.fresh = true;
        self.seen = Seen::Lease { record, since: known.unwrap_or(now) };
    }

    /// The Lease has shown the claim that was sent then.
    fn confirm(&mut self, now: Moment, sent: Moment, term: i32) {
        match &mut self.role {
            Role::Leading { claimed, .. } => *claimed = sent.max(*claimed),
            // A renewal of a term that has ended does not begin it again.
            Role::Standby if self.stopping.is_none() && term != self.last_term && now < sent + GIVE_UP => {
                self.last_term = term;
                self.role = Role::Leading { term, claimed: sent };
            }
            Role::Standby | Role::Ending(_) => {}
        }
    }

    /// When time alone changes something.
    fn wake(&self, now: Moment) -> Moment {
        let call = match self.under_way {
            None => self.intent(now).map(|(at, _)| at.max(self.pace.not_before())),
            Some(_) => None,
        };
        let expiry = match (self.role, &self.seen) {
            (Role::Leading { claimed, .. }, _) => Some(claimed + GIVE_UP),
            (_, Seen::Lease { record, since }) => Some(*since + record.duration).filter(|at| *at > now),
            _ => None,
        };
        call.into_iter().chain(expiry).min().unwrap_or(now + POLL)
    }
}

#[cfg(test)]
mod tests;
