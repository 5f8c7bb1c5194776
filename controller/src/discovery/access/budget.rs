//! How often the API server may be asked whose a token is: pure, with the time given.
//!
//! What a token says of itself costs nothing to write, so a stranger can make as many that look right as it likes. Its
//! address cannot be chosen as freely: each has a share of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

/// Questions at once, and then for each second. 200 gateways that come at once are let in at once, and 1,000 within a
/// minute; an API server answers some hundreds a second.
const OF_ALL: Rate = Rate { burst: 200.0, a_second: 20.0 };

/// The same of one address: 32 gateways that are behind one, as may be where addresses are translated. Each asks once
/// in ten minutes. Six strangers use up the burst of all, and twenty are needed to use up what comes after it.
const OF_ADDRESS: Rate = Rate { burst: 32.0, a_second: 1.0 };

/// Addresses from which on those are forgotten that have their whole share again. There are never more than some 840
/// others, since none enters without a question of all: 200, and 20 a second for the 32 s that a share takes.
const MANY: usize = 1_024;

#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: f64,
    a_second: f64,
}

/// A bucket of tokens, in the other sense of the word.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    since: Instant,
}

/// What is left.
#[derive(Debug)]
pub(super) struct Budget {
    all: Bucket,
    by_address: HashMap<IpAddr, Bucket>,
}

// === impl Bucket ===

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.burst, since: now }
    }

    fn at(self, rate: Rate, now: Instant) -> Self {
        let gained = now.saturating_duration_since(self.since).as_secs_f64() * rate.a_second;
        Self { left: (self.left + gained).min(rate.burst), since: now.max(self.since) }
    }

    fn less_one(self) -> Option<Self> {
        (self.left >= 1.0).then_some(Self { left: self.left - 1.0, ..self })
    }
}

// === impl Budget ===

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { all: Bucket::full(OF_ALL, now), by_address: HashMap::new() }
    }

    /// Whether the API server may be asked at `now` for who comes from `address`. If so, it counts as asked.
    pub(super) fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let address = address.to_canonical();
        let full = Bucket::full(OF_ADDRESS, now);
        let own = self.by_address.get(&address).map_or(full, |bucket| bucket.at(OF_ADDRESS, now));
        let (Some(own), Some(all)) = (own.less_one(), self.all.at(OF_ALL, now).less_one()) else {
            return false;
        };
        if self.by_address.len() >= MANY {
            self.by_address.retain(|_, bucket| bucket.at(OF_ADDRESS, now).left < OF_ADDRESS.burst);
        }
        self.all = all;
        self.by_address.insert(address, own);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    fn taken(budget: &mut Budget, from: u32, tries: usize, now: Instant) -> usize {
        (0..tries).filter(|_| budget.take(address(from), now)).count()
    }

    #[test]
    fn who_asks_too_often_takes_nothing_from_others() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!(taken(&mut budget, 1, 1_000, start), 32);
        assert_eq!(taken(&mut budget, 2, 1, start), 1);
        let later = start + Duration::from_secs(3);
        assert_eq!(taken(&mut budget, 1, 1_000, later), 3);
    }

    #[test]
    fn all_together_are_bounded() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let mut of_all = |now| (0..500).map(|from| taken(&mut budget, from, 1, now)).sum::<usize>();
        assert_eq!(of_all(start), 200);
        assert_eq!(of_all(start + Duration::from_secs(2)), 40);
        assert_eq!(of_all(start + Duration::from_mins(10)), 200);
    }

    #[test]
    fn addresses_are_forgotten() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        for number in 0..10_000 {
            let now = start + Duration::from_millis(50) * number;
            assert!(budget.take(address(number), now), "{number}");
        }
        assert!(budget.by_address.len() <= MANY, "{}", budget.by_address.len());
    }
}
