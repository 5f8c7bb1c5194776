//! Which endpoint a call goes to: the one with less load of two picked at random.
//!
//! Two random picks spread calls nearly as well as looking at all endpoints, cost the same for three as for a
//! thousand, and do not send every gateway to the same idle pod at once. Pure: reads counters, changes nothing,
//! allocates nothing.

use std::sync::Arc;

use crate::route_table::{EndpointId, EndpointState};

/// How often one call may be sent to an agent, the first time included.
pub const MAX_ATTEMPTS: usize = 3;

/// The endpoints that one call has failed at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tried([Option<EndpointId>; MAX_ATTEMPTS]);

/// Picks one of `endpoints` that is not in `tried`, `None` where all are.
pub fn pick<'a>(
    endpoints: &'a [Arc<EndpointState>],
    tried: &Tried,
    rng: &mut fastrand::Rng,
) -> Option<&'a Arc<EndpointState>> {
    if tried.is_empty() {
        return lighter(endpoints.len(), rng, |nth| endpoints.get(nth));
    }
    // A second attempt is rare enough to look at all of them.
    let untried = || endpoints.iter().filter(|endpoint| !tried.contains(endpoint));
    lighter(untried().count(), rng, |nth| untried().nth(nth))
}

fn lighter<'a>(
    len: usize,
    rng: &mut fastrand::Rng,
    nth: impl Fn(usize) -> Option<&'a Arc<EndpointState>>,
) -> Option<&'a Arc<EndpointState>> {
    if len < 2 {
        return nth(0);
    }
    let first = rng.usize(..len);
    let other = rng.usize(..len - 1);
    let second = if other < first { other } else { other + 1 };
    let (first, second) = (nth(first)?, nth(second)?);
    Some(if second.load() < first.load() { second } else { first })
}

// === impl Tried ===

impl Tried {
    /// Whether nothing was tried.
    pub fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    /// Whether `endpoint` was tried.
    pub fn contains(&self, endpoint: &EndpointState) -> bool {
        self.0.contains(&Some(endpoint.id()))
    }

    /// Remembers `endpoint`. More than [`MAX_ATTEMPTS`] are not kept, since no call gets that far.
    pub fn insert(&mut self, endpoint: &EndpointState) {
        if self.contains(endpoint) {
            return;
        }
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(endpoint.id());
        }
    }
}

#[cfg(test)]
mod tests;
