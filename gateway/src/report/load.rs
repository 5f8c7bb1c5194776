//! How busy the gateway was: a sample a second, and the last minute of them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use krypton_discovery::AgentKey;

use crate::metrics::RouteLoad;
use crate::route_table::RouteTableHandle;

/// Samples that are kept: a minute, so that a new leader decides as the old one would have.
const KEPT_SAMPLES: usize = 60;

/// Agents in all kept samples together, some 10 MiB. Where more are busy than fit in for a minute, the history is
/// shorter.
const KEPT_LOADS: usize = 1 << 18;

/// Reads the load off the table.
pub(super) struct Sampler {
    table: RouteTableHandle,
    /// Completed calls at the last sample.
    before: HashMap<AgentKey, u64>,
}

/// How busy one Agent was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgentLoad {
    pub(super) key: AgentKey,
    pub(super) in_flight: u32,
    /// Since the sample before.
    pub(super) completed: u64,
}

/// One sample. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    /// From 1, one more with each.
    pub(super) number: u64,
    pub(super) at: Instant,
    /// Only Agents with something to tell.
    pub(super) loads: Arc<[AgentLoad]>,
}

/// The newest samples.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    newest: u64,
}

// === impl Sampler ===

impl Sampler {
    pub(super) fn new(table: RouteTableHandle) -> Self {
        Self { table, before: HashMap::new() }
    }

    /// How busy each Agent is, and how many of its calls ended since this was last called.
    pub(super) fn sample(&mut self) -> Vec<AgentLoad> {
        let mut loads = Vec::new();
        let mut now = HashMap::with_capacity(self.before.len());
        for route in self.table.iter_called() {
            let Some(RouteLoad { in_flight, completed }) = route.metrics_if_called().map(|m| m.load()) else {
                continue;
            };
            let key = route.key().clone();
            // An Agent that was made anew counts from 0.
            let before = self.before.get(&key).copied().filter(|before| *before <= completed).unwrap_or(0);
            now.insert(key.clone(), completed);
            if in_flight > 0 || completed > before {
                loads.push(AgentLoad { key, in_flight, completed: completed - before });
            }
        }
        self.before = now;
        loads
    }
}

// === impl History ===

impl History {
    pub(super) fn push(&mut self, at: Instant, loads: Vec<AgentLoad>) {
        self.newest += 1;
        self.samples.push_back(Sample { number: self.newest, at, loads: loads.into() });
        let kept =
            |samples: &VecDeque<Sample>| samples.iter().map(|sample| sample.loads.len()).sum::<usize>();
        // The newest stays, however large it is.
        while self.samples.len() > 1
            && (self.samples.len() > KEPT_SAMPLES || kept(&self.samples) > KEPT_LOADS)
        {
            self.samples.pop_front();
        }
    }

    /// The samples after number `number`, oldest first.
    pub(super) fn since(&self, number: u64) -> Vec<Sample> {
        self.samples.iter().filter(|sample| sample.number > number).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use krypton_discovery::EndpointPolicy;

    use super::*;
    use crate::metrics::{CallRecord, RouteInFlight};
    use crate::proxy::error::Outcome;
    use crate::route_table::test_util::mk_resource;
    use crate::route_table::{CallKind, RouteTableWriter};

    fn mk_load(key: &str, in_flight: u32, completed: u64) -> AgentLoad {
        AgentLoad { key: key.parse().unwrap(), in_flight, completed }
    }

    fn end_call(table: &RouteTableHandle, key: &str, outcome: Outcome) {
        table.get(key).unwrap().metrics().record(&CallRecord {
            status: None,
            outcome,
            duration: Duration::ZERO,
            time_to_first_byte: None,
            retries: 0,
        });
    }

    #[test]
    fn a_sample_tells_of_busy_agents_only() {
        let mut writer = RouteTableWriter::new(EndpointPolicy::default());
        for key in ["ns/a", "ns/b", "ns/silent"] {
            writer.upsert(mk_resource::<&str>(key, &[]));
        }
        let table = writer.handle();
        let mut sampler = Sampler::new(table.clone());
        assert_eq!(sampler.sample(), []);
        let run = |kind| RouteInFlight::new(Arc::clone(table.get("ns/a").unwrap().metrics()), kind);
        let (call, _stream) = (run(CallKind::Call), run(CallKind::Standing));
        end_call(&table, "ns/b", Outcome::Ok);
        end_call(&table, "ns/b", Outcome::ClientAbort);
        let mut both = sampler.sample();
        both.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(both, [mk_load("ns/a", 1, 0), mk_load("ns/b", 0, 2)]);
        end_call(&table, "ns/a", Outcome::Ok);
        drop(call);
        assert_eq!(sampler.sample(), [mk_load("ns/a", 0, 1)]);
        assert_eq!(sampler.sample(), []);
    }

    #[test]
    fn an_agent_made_anew_counts_from_nothing() {
        let mut writer = RouteTableWriter::new(EndpointPolicy::default());
        let table = writer.handle();
        let mut sampler = Sampler::new(table.clone());
        for completed in [3, 1] {
            writer.remove("ns/a");
            writer.upsert(mk_resource::<&str>("ns/a", &[]));
            (0..completed).for_each(|_| end_call(&table, "ns/a", Outcome::Ok));
            assert_eq!(sampler.sample(), [mk_load("ns/a", 0, completed)]);
        }
    }

    #[test]
    fn a_minute_is_kept_and_less_of_it_where_much_goes_on() {
        let mut history = History::default();
        let now = Instant::now();
        (0..100).for_each(|_| history.push(now, Vec::new()));
        assert_eq!(history.since(0).len(), KEPT_SAMPLES);
        assert_eq!(history.since(98).iter().map(|sample| sample.number).collect::<Vec<_>>(), [99, 100]);
        let many = vec![mk_load("ns/a", 1, 1); KEPT_LOADS / 2];
        (0..4).for_each(|_| history.push(now, many.clone()));
        assert_eq!(history.since(0).len(), 2);
    }
}
