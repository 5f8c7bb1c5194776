//! What a Lease says, and what is said to the API about it.
//!
//! Owns the bounds on what others write into a Lease. Values only.

use std::time::Duration;

/// How long a claim on the Lease counts for those who watch it. The default of client-go is 15 s; this is what a
/// killed leader costs.
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(10);

/// A claim that names a longer time than this is taken over after this: a slip of a hand must not stop everything.
const MAX_DURATION: Duration = Duration::from_mins(1);

/// A moment on a clock that only goes forward, as the time since some start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

/// What identifies a claim: one of these per write, whatever else changes about the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Who holds the Lease; unset when nobody does.
    pub(super) holder: Option<String>,
    /// `renewTime` in microseconds since 1970. A mark that no two claims of one holder share, never a time to
    /// compare with: clocks differ.
    pub(super) stamp: Option<i64>,
    /// `leaseTransitions`: how often the Lease was acquired.
    pub(super) transitions: i32,
    /// Where the holder is reached.
    pub(super) address: Option<String>,
}

/// A Lease as the API has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// `resourceVersion`: changes with every write, also of things that do not concern us.
    pub(super) version: String,
    /// Whose it is.
    pub(super) claim: Claim,
    /// How long the claim counts, within bounds.
    pub(super) duration: Duration,
}

/// A call of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    /// Reads the Lease.
    Read,
    /// Creates it; a conflict if it exists.
    Create(Claim),
    /// Replaces it; a conflict unless it is still at `version`.
    Replace {
        /// What the claim is based on.
        version: String,
        /// The new claim.
        claim: Claim,
    },
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Well; this is the Lease now.
    Lease(Record),
    /// There is no Lease.
    Absent,
    /// Somebody wrote in between: nothing was done.
    Conflict,
    /// With an error, or not in time. A write may have been done, or may still be.
    Failed,
}

// === impl Moment ===

impl Moment {
    /// The moment `since` the start.
    pub(super) const fn new(since: Duration) -> Self {
        Self(since)
    }

    /// Time since the start.
    pub(super) const fn since_start(self) -> Duration {
        self.0
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

// === impl Claim ===

impl Claim {
    /// Whether `self` and `other` were made by one write.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (&self.holder, self.stamp, self.transitions) == (&other.holder, other.stamp, other.transitions)
    }
}

/// The time for which a claim counts that names `seconds`. Nobody renews in less than we do, so less is a mistake.
pub(super) fn duration(seconds: Option<i32>) -> Duration {
    let named = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    named.unwrap_or(LEASE_DURATION).clamp(LEASE_DURATION, MAX_DURATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_a_claim_names_is_bounded() {
        for (named, counts) in [
            (None, 10),
            (Some(0), 10),
            (Some(-1), 10),
            (Some(i32::MIN), 10),
            (Some(15), 15),
            (Some(60), 60),
            (Some(61), 60),
            (Some(i32::MAX), 60),
        ] {
            assert_eq!(duration(named), Duration::from_secs(counts), "{named:?}");
        }
    }
}
