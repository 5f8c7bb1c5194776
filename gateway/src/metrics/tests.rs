//! A series lives as long as its Agent, and counting costs nothing.

use std::time::Duration;

use krypton_discovery::EndpointPolicy;

use super::*;
use crate::proxy::error::Outcome;
use crate::route_table::test_util::mk_resource;
use crate::route_table::{CallKind, Freshness, RouteTableWriter};

fn mk_metrics(agents: &[&str]) -> (RouteTableWriter, Metrics) {
    let mut writer = RouteTableWriter::new(EndpointPolicy::default());
    for key in agents {
        writer.upsert(mk_resource::<&str>(key, &[]));
    }
    let metrics = Metrics::new(writer.handle());
    (writer, metrics)
}

fn mk_call(status: u16) -> CallRecord {
    CallRecord {
        status: Some(status),
        outcome: Outcome::Ok,
        duration: Duration::from_millis(7),
        time_to_first_byte: Some(Duration::from_millis(3)),
        retries: 0,
    }
}

fn lines(metrics: &Metrics, containing: &str) -> Vec<String> {
    let text = metrics.encode().unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#') && line.contains(containing))
        .map(ToOwned::to_owned)
        .collect()
}

#[test]
fn a_call_is_counted_under_the_names_that_dashboards_know() {
    let (writer, metrics) = mk_metrics(&["team/bot"]);
    let route = writer.handle().get("team/bot").unwrap();
    let running = RouteInFlight::new(Arc::clone(route.metrics()), CallKind::Call);
    let stream = RouteInFlight::new(Arc::clone(route.metrics()), CallKind::Standing);
    route.metrics().record(&CallRecord { retries: 2, ..mk_call(200) });
    route.metrics().record(&CallRecord {
        status: None,
        outcome: Outcome::ClientAbort,
        duration: Duration::from_hours(2),
        time_to_first_byte: None,
        retries: 0,
    });
    let labels = r#"{agent="bot",namespace="team""#;
    for expected in [
        format!(r#"krypton_invocations_total{labels},status="200"}} 1"#),
        format!(r#"krypton_invocations_total{labels},status="none"}} 1"#),
        format!(r#"krypton_outcomes_total{labels},outcome="ok"}} 1"#),
        format!(r#"krypton_outcomes_total{labels},outcome="client_abort"}} 1"#),
        format!("krypton_in_flight{labels}}} 1"),
        format!("krypton_standing_streams{labels}}} 1"),
        format!("krypton_retries_total{labels}}} 2"),
        format!("krypton_time_to_first_byte_seconds_count{labels}}} 1"),
        format!("krypton_invocation_duration_seconds_count{labels}}} 2"),
        format!("krypton_invocation_duration_seconds_sum{labels}}} 7200.007"),
        r#"krypton_invocation_duration_seconds_bucket{le="0.005",agent="bot",namespace="team"} 0"#.to_owned(),
        r#"krypton_invocation_duration_seconds_bucket{le="0.01",agent="bot",namespace="team"} 1"#.to_owned(),
        r#"krypton_invocation_duration_seconds_bucket{le="3600.0",agent="bot",namespace="team"} 1"#
            .to_owned(),
        r#"krypton_invocation_duration_seconds_bucket{le="+Inf",agent="bot",namespace="team"} 2"#.to_owned(),
    ] {
        let found = lines(&metrics, &expected);
        assert_eq!(found, [expected.as_str()], "{:#?}", lines(&metrics, r#"agent="bot""#));
    }
    drop((running, stream));
    assert_eq!(
        lines(&metrics, &format!("krypton_in_flight{labels}")),
        [format!("krypton_in_flight{labels}}} 0")]
    );
}

#[test]
fn series_come_with_the_first_call_and_go_with_the_agent() {
    let (mut writer, metrics) = mk_metrics(&["ns/called", "ns/silent"]);
    let route = writer.handle().get("ns/called").unwrap();
    let running = RouteInFlight::new(Arc::clone(route.metrics()), CallKind::Call);
    assert!(!lines(&metrics, r#"agent="called""#).is_empty());
    assert!(lines(&metrics, r#"agent="silent""#).is_empty());

    // A new version of the route counts on.
    route.metrics().record(&mk_call(200));
    writer.upsert(mk_resource("ns/called", &[("10.0.0.1:80", "")]));
    assert_eq!(lines(&metrics, r#"invocations_total{agent="called""#).len(), 1);

    writer.remove("ns/called");
    running.metrics().record(&mk_call(200));
    drop(running);
    assert!(lines(&metrics, r#"agent="called""#).is_empty(), "a call that ended later makes no series");
}

#[test]
fn names_that_are_no_agent_share_one_series() {
    let (_writer, metrics) = mk_metrics(&[]);
    let before = lines(&metrics, "").len();
    for _ in 0..2_000 {
        metrics.unknown().record(&CallRecord { outcome: Outcome::Refused, ..mk_call(404) });
    }
    let expected = r#"krypton_invocations_total{agent="_unknown",namespace="_unknown",status="404"} 2000"#;
    assert_eq!(lines(&metrics, "invocations_total"), [expected]);
    assert_eq!(lines(&metrics, "").len(), before + 2, "one status and one outcome");
}

#[test]
fn the_statuses_of_an_agent_are_bounded() {
    let (writer, metrics) = mk_metrics(&["ns/a"]);
    let route = writer.handle().get("ns/a").unwrap();
    for status in (0..=u16::MAX).chain(100..=599) {
        route.metrics().record(&mk_call(status));
    }
    let found = lines(&metrics, "invocations_total");
    assert_eq!(found.len(), 17, "{found:#?}");
    assert!(found[0].ends_with(r#"status="100"} 2"#), "{found:#?}");
    let total = 65_536 + 500;
    assert!(found[16].ends_with(&format!(r#"status="other"}} {}"#, total - 32)), "{found:#?}");
}

#[test]
fn counting_allocates_nothing() {
    let (writer, _metrics) = mk_metrics(&["ns/a"]);
    let route = writer.handle().get("ns/a").unwrap();
    route.metrics();
    let info = allocation_counter::measure(|| {
        let running = RouteInFlight::new(Arc::clone(route.metrics()), CallKind::Call);
        for status in 200..300 {
            running.metrics().record(&mk_call(status));
        }
    });
    assert_eq!(info.count_total, 0);
}

#[test]
fn the_table_itself_is_told() {
    let (mut writer, metrics) = mk_metrics(&["ns/a", "ns/b"]);
    assert_eq!(lines(&metrics, "krypton_table_agents"), ["krypton_table_agents 2"]);
    assert_eq!(lines(&metrics, "krypton_table_changes_total"), ["krypton_table_changes_total 2"]);
    assert!(lines(&metrics, "krypton_table_age_seconds").is_empty(), "there is no table yet");
    writer.set_freshness(Freshness::Live);
    assert_eq!(lines(&metrics, "krypton_table_age_seconds"), ["krypton_table_age_seconds 0.0"]);
}

#[test]
fn what_belongs_to_the_process_is_told() {
    let (_writer, metrics) = mk_metrics(&[]);
    metrics.connections.set(3);
    metrics.access_log_dropped.inc();
    metrics.discovery.connected.set(1);
    for expected in [
        "krypton_connections 3",
        "krypton_access_log_dropped_total 1",
        "krypton_panics_total 0",
        "krypton_snapshot_file_failures_total 0",
        "krypton_discovery_connected 1",
        "krypton_discovery_streams_total 0",
        "krypton_discovery_rejected_total 0",
        "krypton_refused_endpoints_total 0",
    ] {
        assert_eq!(lines(&metrics, expected), [expected]);
    }
}
