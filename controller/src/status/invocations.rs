//! When the time of an Agent's last call is worth a write of its own.
//!
//! Owns when each Agent's time was last written, and a bucket for all of them. Calls come by the thousand a second;
//! their times are for people, so they are written at most every five minutes for one Agent and ten times a second in
//! all. Any other write of a status takes the newest time along, see [`super::build_status`].

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use krypton_discovery::AgentKey;

/// Shortest time between two such writes for one Agent.
const PER_AGENT: Duration = Duration::from_mins(5);

/// Writes a second for all Agents together, and how many may come at once.
const IN_ALL: u32 = 10;

/// Bounds writes that tell nothing but the time of a last call.
#[derive(Debug, Default)]
pub struct InvocationLimiter {
    written: HashMap<AgentKey, Timestamp>,
    /// When the bucket is full again.
    full_at: Timestamp,
}

/// Whether a time is worth a write now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is, and a place in the bucket is taken for it.
    Now,
    /// Not before this time.
    At(Timestamp),
    /// The status has it already.
    Never,
}

// === impl InvocationLimiter ===

impl InvocationLimiter {
    /// Whether `seen`, the time of the last call of `agent`, is to be written at `now` over `stored`, the time in its
    /// status. Times count in whole seconds, as they are stored.
    pub fn admit(
        &mut self,
        agent: &AgentKey,
        stored: Option<Timestamp>,
        seen: Timestamp,
        now: Timestamp,
    ) -> Due {
        if stored.is_some_and(|stored| seen.as_second() <= stored.as_second()) {
            return Due::Never;
        }
        // After a restart nothing is remembered; what is stored was not written before its own time.
        let written = self.written.get(agent).copied().or(stored);
        // A time to come is one of a clock that was set back since.
        let written = written.filter(|written| *written <= now);
        if let Some(next) = written.map(|written| later(written, PER_AGENT)).filter(|next| *next > now) {
            return Due::At(next);
        }
        let one = Duration::from_secs(1) / IN_ALL;
        let empty = later(now, one * IN_ALL);
        self.full_at = self.full_at.clamp(now, empty);
        let taken = later(self.full_at, one);
        if taken > empty {
            return Due::At(later(now, one));
        }
        self.full_at = taken;
        Due::Now
    }

    /// Notes that the status of `agent` was written with a newer time, for whatever reason.
    pub fn note_written(&mut self, agent: &AgentKey, now: Timestamp) {
        self.written.insert(agent.clone(), now);
    }

    /// Forgets an Agent that is gone.
    pub fn forget(&mut self, agent: &AgentKey) {
        self.written.remove(agent);
    }
}

fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> AgentKey {
        format!("team-a/{name}").parse().unwrap()
    }

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap()
    }

    #[test]
    fn an_agent_is_written_at_most_every_five_minutes() {
        let mut limiter = InvocationLimiter::default();
        let agent = key("a");
        assert_eq!(limiter.admit(&agent, None, at(0), at(500)), Due::Now);
        limiter.note_written(&agent, at(500));
        let stored = Some(at(0));
        assert_eq!(limiter.admit(&agent, stored, at(60_000), at(61_000)), Due::At(at(300_500)));
        assert_eq!(limiter.admit(&agent, stored, at(60_000), at(300_500)), Due::Now);
        limiter.forget(&agent);
        assert!(limiter.written.is_empty());
    }

    #[test]
    fn a_time_that_is_stored_is_not_written_again() {
        let mut limiter = InvocationLimiter::default();
        assert_eq!(limiter.admit(&key("a"), Some(at(0)), at(999), at(900_000)), Due::Never);
        assert_eq!(limiter.admit(&key("a"), Some(at(5_000)), at(0), at(900_000)), Due::Never);
    }

    /// A new leader remembers nothing; the stored times bound it.
    #[test]
    fn a_restart_does_not_write_at_once() {
        let mut limiter = InvocationLimiter::default();
        assert_eq!(limiter.admit(&key("a"), Some(at(0)), at(60_000), at(61_000)), Due::At(at(300_000)));
    }

    #[test]
    fn all_agents_share_ten_writes_a_second() {
        let mut limiter = InvocationLimiter::default();
        let agents: Vec<_> = (0..1000).map(|number| key(&format!("a{number}"))).collect();
        let admitted = |limiter: &mut InvocationLimiter, now| {
            agents.iter().filter(|agent| limiter.admit(agent, None, at(0), now) == Due::Now).count()
        };
        assert_eq!(admitted(&mut limiter, at(0)), 10);
        assert_eq!(admitted(&mut limiter, at(0)), 0);
        assert_eq!(admitted(&mut limiter, at(99)), 0);
        assert_eq!(admitted(&mut limiter, at(100)), 1);
        assert_eq!(admitted(&mut limiter, at(600)), 5);
        assert_eq!(admitted(&mut limiter, at(60_000)), 10, "no credit is saved up beyond a second");
        let Due::At(next) = limiter.admit(&agents[0], None, at(0), at(60_000)) else {
            panic!("one too many")
        };
        assert_eq!(next, at(60_100));
    }

    #[test]
    fn a_clock_set_back_does_not_silence_for_long() {
        let mut limiter = InvocationLimiter::default();
        let agent = key("a");
        for _ in 0..10 {
            assert_eq!(limiter.admit(&agent, None, at(0), at(86_400_000)), Due::Now);
        }
        limiter.note_written(&agent, at(86_400_000));
        assert_eq!(limiter.admit(&agent, None, at(0), at(0)), Due::At(at(100)));
        assert_eq!(limiter.admit(&agent, None, at(0), at(1_000)), Due::Now);
    }
}
