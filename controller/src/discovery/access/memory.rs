//! What is known of tokens, and what follows from it: pure, with the time given.
//!
//! A token that the API server accepted is not asked about again for [`RECHECK`]: so long may one of a deleted pod open
//! new streams. While the API server does not answer, what it accepted before holds to the token's own end, so that a
//! gateway that reconnects does not lose its routes to an outage; an unknown token waits. What it refused is not asked
//! about again for [`REFUSED`]: a gateway that tries on and on costs it little. Both tables are bounded.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use super::token::TokenKey;

/// How long an accepted token is not asked about again.
pub(super) const RECHECK: Duration = Duration::from_mins(10);

/// How long a refused one is not.
pub(super) const REFUSED: Duration = Duration::from_secs(10);

/// Tokens in each of the tables: above what 1,000 gateways show within [`RECHECK`].
const CAPACITY: usize = 4_096;

/// Why somebody may not listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No token was shown.
    NoToken,
    /// The API server does not accept the token for our audience.
    NotAccepted,
    /// It is the token of this user, who is not one that may.
    WrongAccount(String),
}

/// Whether somebody may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Welcome,
    Refused(Refusal),
    /// Nobody could be asked.
    Unknown,
}

/// The API server's answer about one token.
pub(super) type Answer = Result<(), Refusal>;

/// The API server gave none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unanswered;

#[derive(Debug, Clone, Copy)]
struct Accepted {
    recheck: Instant,
    expires: Instant,
}

#[derive(Debug, Clone)]
struct Refused {
    why: Refusal,
    until: Instant,
}

/// Tokens that were asked about.
#[derive(Debug, Default)]
pub(super) struct Memory {
    accepted: HashMap<TokenKey, Accepted>,
    refused: HashMap<TokenKey, Refused>,
    /// Those that are being asked about.
    turns: HashMap<TokenKey, Weak<Mutex<()>>>,
}

// === impl Verdict ===

impl Verdict {
    /// What the log is told once of in a while.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Welcome => "welcome",
            Self::Refused(Refusal::NoToken) => "no token",
            Self::Refused(Refusal::NotAccepted) => "token not accepted",
            Self::Refused(Refusal::WrongAccount(_)) => "wrong account",
            Self::Unknown => "unknown",
        }
    }
}

// === impl Memory ===

impl Memory {
    /// What is known at `now`; `None` if the API server is to be asked.
    pub(super) fn look_up(&self, key: &TokenKey, now: Instant) -> Option<Verdict> {
        if self.accepted.get(key).is_some_and(|accepted| now < accepted.recheck) {
            return Some(Verdict::Welcome);
        }
        let refused = self.refused.get(key).filter(|refused| now < refused.until)?;
        Some(Verdict::Refused(refused.why.clone()))
    }

    /// Takes in what the API server says at `now` of a token that lives on for `life`, where it says how long.
    pub(super) fn settle(
        &mut self,
        key: TokenKey,
        answer: Result<Answer, Unanswered>,
        life: Option<Duration>,
        now: Instant,
    ) -> Verdict {
        match answer {
            Ok(Ok(())) => {
                let life = life.unwrap_or(RECHECK);
                let recheck = now + life.min(RECHECK);
                let accepted = Accepted { recheck, expires: now.checked_add(life).unwrap_or(recheck) };
                self.refused.remove(&key);
                make_room(&mut self.accepted, |accepted| accepted.expires, now);
                self.accepted.insert(key, accepted);
                Verdict::Welcome
            }
            Ok(Err(why)) => {
                self.accepted.remove(&key);
                make_room(&mut self.refused, |refused| refused.until, now);
                self.refused.insert(key, Refused { why: why.clone(), until: now + REFUSED });
                Verdict::Refused(why)
            }
            Err(Unanswered) => match self.accepted.get(&key) {
                Some(accepted) if now < accepted.expires => Verdict::Welcome,
                _ => Verdict::Unknown,
            },
        }
    }

    /// What is to be locked by who asks about a token, so that one asks and the others find the answer.
    pub(super) fn turn(&mut self, key: TokenKey) -> Arc<Mutex<()>> {
        // Never more than there are calls that wait.
        self.turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = self.turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        self.turns.insert(key, Arc::downgrade(&turn));
        turn
    }
}

/// Takes out what has ended, or else what ends first.
fn make_room<V>(table: &mut HashMap<TokenKey, V>, end: impl Fn(&V) -> Instant, now: Instant) {
    if table.len() < CAPACITY {
        return;
    }
    table.retain(|_, value| now < end(value));
    if table.len() >= CAPACITY
        && let Some(first) = table.iter().min_by_key(|(_, value)| end(value)).map(|(key, _)| *key)
    {
        table.remove(&first);
    }
}

#[cfg(test)]
mod tests;
