//! What the leader is told, in messages of bounded size. Pure.

use std::time::Instant;

use krypton_discovery::{AgentKey, wire};

use super::holds::{Changed, Refusal};
use super::load::Sample;
use crate::route_table::{ActiveRoute, RouteTableHandle};

/// Agents in one message: some 200 KiB at the longest names.
const MAX_AGENTS: usize = 2_000;

/// What a stream begins with: who the gateway is, and all that it holds and refuses. At least one message.
pub(super) fn greeting(
    node_id: &str,
    table: &RouteTableHandle,
    refused: &[(AgentKey, Refusal)],
) -> Vec<wire::ReportRequest> {
    let held: Vec<_> = table.iter().map(|route| held_out(&route)).collect();
    let part =
        |held: &[wire::HeldResource]| wire::ReportRequest { held: held.to_vec(), ..Default::default() };
    let mut messages: Vec<_> = held.chunks(MAX_AGENTS).map(part).collect();
    // Refusals are few, and come last: what is held would take them back.
    let rejected = refused.iter().map(|(key, refusal)| rejected_out(key, refusal)).collect();
    messages.push(wire::ReportRequest { rejected, ..Default::default() });
    let last = messages.len() - 1;
    messages[..last].iter_mut().for_each(|message| message.more = true);
    messages[0].node =
        Some(wire::Node { id: node_id.to_owned(), build: env!("CARGO_PKG_VERSION").to_owned() });
    messages
}

/// How it stands with each of `changed` now.
pub(super) fn changes(table: &RouteTableHandle, changed: &[Changed]) -> Vec<wire::ReportRequest> {
    let message = |part: &[Changed]| {
        let mut message = wire::ReportRequest::default();
        for (key, refusal) in part {
            match table.get(key.as_str()) {
                Some(route) => message.held.push(held_out(&route)),
                None => message.removed.push(key.to_string()),
            }
            message.rejected.extend(refusal.as_ref().map(|refusal| rejected_out(key, refusal)));
        }
        message
    };
    changed.chunks(MAX_AGENTS).map(message).collect()
}

/// `samples`, as old as they are at `now`.
pub(super) fn samples(samples: &[Sample], now: Instant) -> Vec<wire::ReportRequest> {
    let mut messages: Vec<wire::ReportRequest> = Vec::new();
    let mut room = 0;
    for part in samples.iter().flat_map(|sample| parts(sample, now)) {
        if let Some(message) = messages.last_mut().filter(|_| part.agents.len() <= room) {
            room -= part.agents.len();
            message.samples.push(part);
        } else {
            room = MAX_AGENTS - part.agents.len();
            messages.push(wire::ReportRequest { samples: vec![part], ..Default::default() });
        }
    }
    messages
}

/// One sample, cut where it is too large for a message.
fn parts(sample: &Sample, now: Instant) -> Vec<wire::LoadSample> {
    let age = now.saturating_duration_since(sample.at).as_millis();
    let age_ms = u64::try_from(age).unwrap_or(u64::MAX);
    let mut parts: Vec<_> = sample
        .loads
        .chunks(MAX_AGENTS)
        .map(|loads| {
            let agents = loads.iter().map(|load| wire::AgentLoad {
                name: load.key.to_string(),
                in_flight: load.in_flight,
                // Nothing waits yet: a call without a pod is refused at once.
                waiting: 0,
                completed: load.completed,
            });
            wire::LoadSample { age_ms, agents: agents.collect(), more: true }
        })
        .collect();
    match parts.last_mut() {
        Some(last) => last.more = false,
        // That nothing went on is worth knowing too.
        None => parts.push(wire::LoadSample { age_ms, ..Default::default() }),
    }
    parts
}

fn held_out(route: &ActiveRoute) -> wire::HeldResource {
    let version = route.load().version();
    wire::HeldResource { name: route.key().to_string(), version: version.as_bytes().to_vec() }
}

fn rejected_out(key: &AgentKey, refusal: &Refusal) -> wire::RejectedResource {
    wire::RejectedResource {
        name: key.to_string(),
        version: refusal.version.as_bytes().to_vec(),
        reason: refusal.reason.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use krypton_discovery::{EndpointPolicy, Version};

    use super::super::load::AgentLoad;
    use super::*;
    use crate::route_table::RouteTableWriter;
    use crate::route_table::test_util::mk_resource;

    fn mk_table(agents: usize) -> RouteTableWriter {
        let mut writer = RouteTableWriter::new(EndpointPolicy::default());
        for n in 0..agents {
            writer.upsert(mk_resource::<&str>(&format!("ns/a{n}"), &[]));
        }
        writer
    }

    fn mk_refusal() -> Refusal {
        Refusal { version: Version::try_from([8; 16].as_slice()).unwrap(), reason: "port: no".to_owned() }
    }

    #[test]
    fn a_greeting_of_nothing_says_who_there_is() {
        let messages = greeting("g1", &mk_table(0).handle(), &[]);
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].node.as_ref().unwrap().id, "g1");
        assert!(!messages[0].more);
    }

    #[test]
    fn a_large_table_is_greeted_with_in_parts() {
        let refused = [("ns/a0".parse().unwrap(), mk_refusal())];
        let messages = greeting("g1", &mk_table(MAX_AGENTS + 1).handle(), &refused);
        let parts: Vec<_> =
            messages.iter().map(|m| (m.node.is_some(), m.held.len(), m.rejected.len(), m.more)).collect();
        assert_eq!(parts, [(true, MAX_AGENTS, 0, true), (false, 1, 0, true), (false, 0, 1, false)]);
    }

    #[test]
    fn a_change_tells_how_it_stands() {
        let table = mk_table(2);
        let key = |name: &str| name.parse::<AgentKey>().unwrap();
        let changed = [(key("ns/a0"), None), (key("ns/a1"), Some(mk_refusal())), (key("ns/gone"), None)];
        let messages = changes(&table.handle(), &changed);
        assert_eq!(messages.len(), 1);
        let held: Vec<_> = messages[0].held.iter().map(|held| held.name.as_str()).collect();
        assert_eq!((held, &messages[0].removed), (vec!["ns/a0", "ns/a1"], &vec!["ns/gone".to_owned()]));
        assert_eq!(messages[0].held[0].version, mk_resource::<&str>("ns/a0", &[]).version().as_bytes());
        assert_eq!(messages[0].rejected[0].name, "ns/a1");
        assert_eq!(messages[0].rejected[0].reason, "port: no");
    }

    #[test]
    fn samples_are_cut_and_put_together() {
        let now = Instant::now();
        let load = AgentLoad { key: "ns/a".parse().unwrap(), in_flight: 1, completed: 2 };
        let sample = |number, age, loads| Sample {
            number,
            at: now.checked_sub(Duration::from_secs(age)).unwrap(),
            loads: vec![load.clone(); loads].into(),
        };
        let all = [sample(1, 2, 1), sample(2, 1, 0), sample(3, 0, MAX_AGENTS + 1)];
        let messages = samples(&all, now);
        let told: Vec<Vec<_>> = messages
            .iter()
            .map(|m| m.samples.iter().map(|s| (s.age_ms, s.agents.len(), s.more)).collect())
            .collect();
        assert_eq!(
            told,
            [vec![(2_000, 1, false), (1_000, 0, false)], vec![(0, MAX_AGENTS, true)], vec![(0, 1, false)]]
        );
    }
}
