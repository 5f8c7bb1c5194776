//! What a run will do.
//!
//! Owns: turning flags into values that cannot be wrong, with a sentence for each that is. Never connects.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Method;

use super::args::{CallArgs, Protocol, TrafficArgs};
use super::mix::{self, Line, Mix};
use super::report::Kind;
use super::target::Target;

/// Of one run. A machine has 65,535 ports to an address and, by --source, some addresses.
const MAX_CONNECTIONS: usize = 200_000;

/// Of one run: nobody forgets a load for longer.
pub(crate) const MAX_DURATION: Duration = Duration::from_hours(1);

/// More than any machine of this kind answers.
const MAX_RATE: f64 = 10_000_000.0;

/// How long is measured when nobody says.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);

/// A run. Everything in it has been checked.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What it is about.
    pub(super) kind: Kind,
    /// Connections are spread over them evenly. Not empty.
    pub(super) groups: Vec<Group>,
    /// At least as many as threads.
    pub(super) connections: usize,
    /// At least one.
    pub(super) threads: usize,
    /// Empty: any.
    pub(super) cores: Vec<usize>,
    /// Threads do not sleep.
    pub(super) busy_poll: bool,
    /// Empty: any. Of the same family as all groups.
    pub(super) sources: Vec<IpAddr>,
    /// On all connections.
    pub(super) protocol: Protocol,
    /// One for HTTP/1.1.
    pub(super) streams_per_connection: usize,
    /// In a thousand seconds; `None`: closed loop.
    pub(super) per_kilosecond: Option<u64>,
    /// Of the measurement; `None`, only of [`Kind::Idle`]: until standard input says.
    pub(super) duration: Option<Duration>,
    /// Before it.
    pub(super) warm_up: Duration,
    /// Of each call.
    pub(super) timeout: Duration,
    /// Of each message of a WebSocket.
    pub(super) message_bytes: usize,
    /// How it is told.
    pub(super) output: Output,
}

/// What is asked of one address.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Where.
    pub(super) address: SocketAddr,
    /// What.
    pub(super) mix: Arc<Mix>,
}

/// How a run is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    /// The report as JSON.
    pub(super) json: bool,
    /// Lines at the beginning and end of the measurement.
    pub(super) announce: bool,
    /// No progress.
    pub(super) quiet: bool,
}

// === impl Plan ===

impl Plan {
    /// Checks all flags.
    ///
    /// # Errors
    /// A sentence that names the flag and what it may be.
    pub(super) fn new(kind: Kind, traffic: &TrafficArgs, calls: &CallArgs) -> anyhow::Result<Self> {
        let connections = traffic.connections;
        ensure!(
            (1..=MAX_CONNECTIONS).contains(&connections),
            "--connections {connections} is not between 1 and {MAX_CONNECTIONS}"
        );
        ensure!((1..=64).contains(&traffic.threads), "--threads {} is not between 1 and 64", traffic.threads);
        let streams = traffic.streams_per_connection;
        ensure!(
            (1..=1000).contains(&streams),
            "--streams-per-connection {streams} is not between 1 and 1000"
        );
        ensure!(
            streams == 1 || traffic.protocol == Protocol::H2c,
            "--streams-per-connection {streams} needs --protocol h2c: a connection of HTTP/1.1 carries one call at a time"
        );
        ensure!(
            kind != Kind::WebSocket || traffic.protocol == Protocol::Http1,
            "WebSockets are spoken over --protocol http1 only"
        );
        ensure!(
            calls.rate.is_none() || matches!(kind, Kind::Requests | Kind::WebSocket),
            "--rate is for `requests` and `websocket`: events come at the rate of their origin"
        );
        ensure!(!traffic.timeout.is_zero(), "--timeout must be above 0");
        ensure!(traffic.warm_up <= MAX_DURATION, "--warm-up is at most an hour");
        let groups = groups(traffic, calls)?;
        check_sources(&traffic.source, &groups)?;
        Ok(Self {
            kind,
            groups,
            connections,
            threads: traffic.threads.min(connections),
            cores: traffic.cores.clone(),
            busy_poll: traffic.busy_poll,
            sources: traffic.source.clone(),
            protocol: traffic.protocol,
            streams_per_connection: streams,
            per_kilosecond: calls.rate.map(rate).transpose()?,
            duration: duration(kind, traffic.duration)?,
            warm_up: if kind == Kind::Idle { Duration::ZERO } else { traffic.warm_up },
            timeout: traffic.timeout,
            message_bytes: calls.body_bytes,
            output: Output { json: traffic.json, announce: traffic.announce, quiet: traffic.quiet },
        })
    }
}

fn duration(kind: Kind, given: Option<Duration>) -> anyhow::Result<Option<Duration>> {
    if let Some(duration) = given {
        ensure!(
            !duration.is_zero() && duration <= MAX_DURATION,
            "--duration {} is not above 0 and at most an hour",
            humantime::format_duration(duration)
        );
    }
    Ok(if kind == Kind::Idle { given } else { Some(given.unwrap_or(DEFAULT_DURATION)) })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is checked to be in range")]
fn rate(per_second: f64) -> anyhow::Result<u64> {
    ensure!(
        (0.001..=MAX_RATE).contains(&per_second),
        "--rate {per_second} is not between 0.001 and {MAX_RATE} calls a second"
    );
    Ok((per_second * 1000.0).round() as u64)
}

fn groups(traffic: &TrafficArgs, calls: &CallArgs) -> anyhow::Result<Vec<Group>> {
    let lines = lines(calls)?;
    let headers = mix::headers(&traffic.header)?;
    let mut by_address: Vec<(SocketAddr, Vec<Target>)> = Vec::new();
    for url in &traffic.urls {
        let target = Target::new(url, traffic.allow_remote)?;
        match by_address.iter_mut().find(|(address, _)| *address == target.address) {
            Some((_, targets)) => targets.push(target),
            None => by_address.push((target.address, vec![target])),
        }
    }
    ensure!(
        by_address.len() <= traffic.connections,
        "--connections {} is fewer than the {} servers of the URLs",
        traffic.connections,
        by_address.len()
    );
    by_address
        .into_iter()
        .map(|(address, targets)| Ok(Group { address, mix: Arc::new(Mix::new(&targets, &lines, &headers)?) }))
        .collect()
}

fn lines(calls: &CallArgs) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for text in &calls.mix {
        if text.trim().contains(char::is_whitespace) {
            lines.push(Line::parse(text)?);
        } else {
            let file = std::fs::read_to_string(text)
                .with_context(|| format!("--mix {text:?} is neither a line nor a file that can be read"))?;
            lines.extend(Line::parse_all(&file).with_context(|| format!("in {text:?}"))?);
        }
    }
    if lines.is_empty() {
        let default = if calls.body_bytes > 0 { "POST" } else { "GET" };
        let method = calls.method.as_deref().unwrap_or(default);
        let method =
            Method::from_bytes(method.as_bytes()).with_context(|| format!("--method {method:?} is none"))?;
        lines.push(Line { weight: 1, method, path: String::new(), body_bytes: calls.body_bytes });
    }
    Ok(lines)
}

fn check_sources(sources: &[IpAddr], groups: &[Group]) -> anyhow::Result<()> {
    for source in sources {
        for group in groups {
            ensure!(
                source.is_ipv4() == group.address.is_ipv4(),
                "--source {source} cannot connect to {}: give an address of the same family",
                group.address
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        traffic: TrafficArgs,
        #[command(flatten)]
        calls: CallArgs,
    }

    fn plan(kind: Kind, line: &str) -> anyhow::Result<Plan> {
        let line = Line::try_parse_from(["x"].into_iter().chain(line.split(' ')))?;
        Plan::new(kind, &line.traffic, &line.calls)
    }

    #[test]
    fn urls_of_one_server_share_its_connections() {
        let urls =
            "http://127.0.0.1:1/{0..3} http://127.0.0.1:1/x http://127.0.0.1:2 --threads 9 -c 2 --rate 0.5";
        let plan = plan(Kind::Requests, urls).unwrap();
        assert_eq!(plan.groups.iter().map(|group| group.mix.count()).collect::<Vec<_>>(), [4, 1]);
        assert_eq!(
            (plan.threads, plan.per_kilosecond, plan.duration),
            (2, Some(500), Some(DEFAULT_DURATION))
        );
    }

    #[test]
    fn each_wrong_flag_is_named() {
        let wrong = [
            (Kind::Requests, "http://127.0.0.1 --connections 0", "--connections"),
            (Kind::Requests, "http://127.0.0.1 http://127.0.0.2 --connections 1", "--connections"),
            (Kind::Requests, "http://127.0.0.1 --threads 0", "--threads"),
            (Kind::Requests, "http://127.0.0.1 --rate 0", "--rate"),
            (Kind::Requests, "http://127.0.0.1 --rate nan", "--rate"),
            (Kind::Sse, "http://127.0.0.1 --rate 1", "--rate"),
            (Kind::Requests, "http://127.0.0.1 --duration 2h", "--duration"),
            (Kind::Requests, "http://127.0.0.1 --duration x", "--duration"),
            (Kind::Requests, "http://127.0.0.1 --timeout 0s", "--timeout"),
            (Kind::Requests, "http://127.0.0.1 --streams-per-connection 2", "--protocol h2c"),
            (Kind::WebSocket, "ws://127.0.0.1 --protocol h2c", "--protocol http1"),
            (Kind::Requests, "http://127.0.0.1 --protocol h3", "--protocol"),
            (Kind::Requests, "http://127.0.0.1 --source ::1", "--source"),
            (Kind::Requests, "http://127.0.0.1 --mix nowhere", "--mix"),
            (Kind::Requests, "http://127.0.0.1 --method (", "--method"),
            (Kind::Requests, "http://127.0.0.1 --header x", "--header"),
            (Kind::Requests, "http://10.1.1.1", "--allow-remote"),
        ];
        for (kind, line, flag) in wrong {
            let error = format!("{:#}", plan(kind, line).expect_err(line));
            assert!(error.contains(flag), "{line}: {error}");
        }
    }

    #[test]
    fn only_what_is_held_may_have_no_end() {
        assert_eq!(plan(Kind::Idle, "http://127.0.0.1").unwrap().duration, None);
        assert_eq!(plan(Kind::Sse, "http://127.0.0.1 -d 3s").unwrap().duration, Some(Duration::from_secs(3)));
    }
}
