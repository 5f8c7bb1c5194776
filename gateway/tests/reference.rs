//! The pages of `docs/reference/` say what the code does.

#[path = "../../docs/reference/check.rs"]
mod check;
#[path = "../../docs/reference/program.rs"]
mod program;

use std::fmt::Write as _;
use std::time::Duration;

use check::check;
use clap::CommandFactory as _;
use krypton_discovery::{AgentKey, EndpointPolicy};
use krypton_gateway::args::Args;
use krypton_gateway::balance::MAX_ATTEMPTS;
use krypton_gateway::metrics::{CallRecord, Metrics};
use krypton_gateway::proxy::error::{AgentName, CallError, Outcome};
use krypton_gateway::proxy::peer::UPSTREAM_IDLE;
use krypton_gateway::proxy::probe::{self, ProbeProblem};
use krypton_gateway::route_table::{RouteTableWriter, STALE_AFTER};

#[test]
fn the_flags_are_those_of_the_program() {
    check("gateway-flags.md", "flags", &program::flags(&Args::command()));
}

#[test]
fn the_metrics_are_those_of_the_program() {
    let metrics = Metrics::new(RouteTableWriter::new(EndpointPolicy::default()).handle());
    // A sample of each metric that has none before the first call.
    metrics.unknown().record(&CallRecord {
        status: Some(200),
        outcome: Outcome::Ok,
        duration: Duration::from_secs(1),
        time_to_first_byte: Some(Duration::from_secs(1)),
        retries: 1,
    });
    check("metrics.md", "gateway", &program::metrics(&metrics.encode().unwrap()));
}

#[test]
fn every_error_has_its_row() {
    let mut table =
        "| status | `code` | `Retry-After` | outcome | `error` |\n|---|---|---|---|---|\n".to_owned();
    for error in errors() {
        let is = error.disposition();
        let retry_after = is.retry_after.map(|seconds| format!("{seconds} s")).unwrap_or_default();
        writeln!(
            table,
            "| {} | `{}` | {retry_after} | `{}` | {error} |",
            is.status,
            is.code,
            is.outcome.as_str()
        )
        .unwrap();
    }
    check("http.md", "errors", &table);
}

#[test]
fn every_outcome_is_explained() {
    let page = include_str!("../../docs/reference/metrics.md");
    for outcome in Outcome::ALL {
        assert!(page.contains(&format!("| `{}` |", outcome.as_str())), "metrics.md lacks {outcome:?}");
    }
}

/// Limits stand on the page with a sentence each; the numbers are the program's.
#[test]
fn the_limits_are_those_of_the_program() {
    let page = include_str!("../../docs/reference/http.md");
    let says = |row: &str| assert!(page.contains(row), "http.md lacks the row: {row}");
    for arg in Args::command().get_arguments() {
        let is_duration = arg.get_value_names().is_some_and(|names| names == ["DURATION"]);
        if let (true, Some(flag), [default]) = (is_duration, arg.get_long(), arg.get_default_values()) {
            says(&format!("| {} | `--{flag}` |", default.display()));
        }
    }
    says(&format!("| {} ms |", UPSTREAM_IDLE.as_millis()));
    says(&format!("| {} s without a controller |", STALE_AFTER.as_secs()));
    assert_eq!(MAX_ATTEMPTS, 3);
    assert!(page.contains("At most three attempts"));
}

#[test]
fn the_probe_takes_what_its_page_says() {
    let page = include_str!("../../docs/reference/http.md");
    let says = |row: &str| assert!(page.contains(row), "http.md lacks: {row}");
    for (name, range, default) in [
        ("events", &probe::EVENTS, probe::DEFAULT_EVENTS.to_string()),
        ("interval", &probe::INTERVAL_MS, probe::DEFAULT_INTERVAL_MS.to_string()),
        ("silence", &probe::SILENCE_MS, "none".to_owned()),
    ] {
        says(&format!("| `{name}` | {} to {} | {default} |", range.start(), range.end()));
    }
    says(&format!("up to {} MiB", probe::UPLOAD_LIMIT / (1024 * 1024)));
    says(&format!("within {} minutes", probe::UPLOAD_TIME.as_secs() / 60));
    says(&format!("answers {} probes at one time", probe::SLOTS));
}

/// One of each, in the order of their declaration.
fn errors() -> Vec<CallError> {
    let key: AgentKey = "team/agent".parse().expect("a key");
    let all = vec![
        CallError::NotFound,
        CallError::ModelsUnsupported,
        CallError::BadPath,
        CallError::MissingHost,
        CallError::BadConnectionHeader,
        CallError::BadHeader,
        CallError::HostNotAllowed,
        CallError::ProbeDisabled,
        CallError::ProbeBusy,
        CallError::BadProbe(ProbeProblem::Events),
        CallError::ProbeUploadTooLarge,
        CallError::MethodNotAllowed("GET"),
        CallError::UnknownAgent(AgentName("team/agent".into())),
        CallError::NotReady,
        CallError::NoEndpoint(key.clone()),
        CallError::ScaledToZero(key),
        CallError::UpstreamRefused,
        CallError::UpstreamConnectTimeout,
        CallError::UpstreamReset,
        CallError::UpstreamInvalid,
        CallError::UpstreamTimeout,
        CallError::MaxDuration,
        CallError::ClientStalled,
        CallError::ClientAbort,
        CallError::ShuttingDown,
        CallError::Internal,
    ];
    for error in &all {
        // Does not compile with an error that is new: add it above too.
        match error {
            CallError::NotFound
            | CallError::ModelsUnsupported
            | CallError::BadPath
            | CallError::MissingHost
            | CallError::BadConnectionHeader
            | CallError::BadHeader
            | CallError::HostNotAllowed
            | CallError::ProbeDisabled
            | CallError::ProbeBusy
            | CallError::BadProbe(_)
            | CallError::ProbeUploadTooLarge
            | CallError::MethodNotAllowed(_)
            | CallError::UnknownAgent(_)
            | CallError::NotReady
            | CallError::NoEndpoint(_)
            | CallError::ScaledToZero(_)
            | CallError::UpstreamRefused
            | CallError::UpstreamConnectTimeout
            | CallError::UpstreamReset
            | CallError::UpstreamInvalid
            | CallError::UpstreamTimeout
            | CallError::MaxDuration
            | CallError::ClientStalled
            | CallError::ClientAbort
            | CallError::ShuttingDown
            | CallError::Internal => {}
        }
    }
    all
}
