//! One agent changed in a route table, in this process: what the gateway does when a pod comes or goes, without the way
//! there.

use std::collections::BTreeMap;
use std::time::Instant;

use indicatif::ProgressBar;
use krypton_discovery::EndpointPolicy;
use krypton_gateway::route_table::RouteTableWriter;

use super::catalogue::Variant;
use super::measure::to_f64;
use super::stage::Stage;
use crate::result::{Metric, Sample, ScenarioResult};
use crate::routes::{ENDPOINTS, route};
use crate::stats::{Build, median};

/// Changes of which the median is taken.
const CHANGES: usize = 2000;

/// Measures tables of these sizes, once a round each. The programs' build does not matter to this one.
pub(super) fn run(
    stage: &Stage,
    found: &mut ScenarioResult,
    variants: &[Variant],
    sizes: &[usize],
    bar: &ProgressBar,
) {
    found
        .notes
        .push("Measured in the harness itself, built as it is, with the system's allocator.".to_owned());
    for variant in variants.iter().filter(|variant| variant.build == Build::Plain) {
        let mut tables: Vec<_> =
            sizes.iter().map(|size| (*size, filled((size / stage.plan.shrink as usize).max(10)))).collect();
        for round in 0..stage.plan.rounds {
            for (size, (writer, agents)) in &mut tables {
                let before = round as usize * CHANGES;
                let figures = BTreeMap::from([(Metric::TableUpdateUs, change(writer, *agents, before))]);
                found.samples.push(Sample {
                    peer: variant.peer.to_string(),
                    round,
                    x: Some(to_f64(*size)),
                    figures,
                    ..Sample::default()
                });
            }
            bar.inc(1);
        }
    }
}

fn filled(agents: usize) -> (RouteTableWriter, usize) {
    let mut writer = RouteTableWriter::new(EndpointPolicy::default());
    for n in 0..agents {
        writer.upsert(route(n, ENDPOINTS));
    }
    (writer, agents)
}

/// The median of changes all over the table, in microseconds; so many were made `before`.
fn change(writer: &mut RouteTableWriter, agents: usize, before: usize) -> f64 {
    let mut times = Vec::with_capacity(CHANGES);
    for n in before..before + CHANGES {
        // Each agent once, then each once more: the step is a prime that divides no size. What an agent has already
        // would be no change, so it loses a pod and gets it back.
        let (agent, has_all) = (n * 7919 % agents, n / agents % 2 == 1);
        let changed = route(agent, if has_all { ENDPOINTS } else { ENDPOINTS - 1 });
        let began = Instant::now();
        writer.upsert(changed);
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    median(&times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_one() {
        for agents in [10, 50, 100, 1000, 5000] {
            let (mut writer, agents) = filled(agents);
            let table = writer.handle();
            for round in 0..4 {
                let before = table.changes();
                change(&mut writer, agents, round * CHANGES);
                assert_eq!(table.changes() - before, CHANGES as u64, "{agents} agents, round {round}");
            }
        }
    }
}
