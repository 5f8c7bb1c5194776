//! This generator beside wrk and h2load.
//!
//! Owns: running them in turns at one URL in closed loop, and the table of what they found and needed. The server is the
//! limit then, so all must find the same. Never judges by a single measurement.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::args::{CrosscheckArgs, Protocol};
use super::clock::float;
use super::report::LoadReport;
use super::target::Target;
use crate::stats::median;

/// Two generators that differ by more do not measure the same.
const TOLERANCE_PERCENT: f64 = 5.0;

/// USER_HZ, which is a hundred wherever Krypton runs.
const TICKS_PER_SECOND: u64 = 100;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Tool {
    Ours,
    Wrk,
    H2load,
}

/// What one turn found.
#[derive(Clone, Copy, Debug)]
struct Turn {
    per_second: f64,
    /// Of the generator.
    cpu_us_per_request: f64,
}

/// Compares them and prints the table.
///
/// # Errors
/// When a program is missing or fails, or ours differs by more than 5 %.
pub(super) fn main(args: &CrosscheckArgs) -> anyhow::Result<()> {
    // The others would go anywhere.
    Target::new(&args.url, false)?;
    ensure!((1..=100).contains(&args.rounds), "--rounds {} is not between 1 and 100", args.rounds);
    let seconds = args.duration.as_secs();
    ensure!((1..=60).contains(&seconds), "--duration is not between 1s and 60s, whole seconds");
    let tools = match args.protocol {
        Protocol::Http1 => vec![Tool::Ours, Tool::Wrk, Tool::H2load],
        Protocol::H2c => vec![Tool::Ours, Tool::H2load],
    };
    // Better before than after the first turn.
    for tool in &tools {
        let program = command(*tool, args, seconds)?;
        let there = Command::new(program.get_program()).arg("--version").output();
        ensure!(there.is_ok(), "{} is not there: install it, or name it by --{0}", tool.name());
    }
    super::limits::pin(&args.cores)?;
    let mut turns: Vec<Vec<Turn>> = vec![Vec::new(); tools.len()];
    for round in 1..=args.rounds {
        let mut order: Vec<usize> = (0..tools.len()).collect();
        // There and back, so that a machine that grows slower favours nobody.
        if round % 2 == 0 {
            order.reverse();
        }
        for at in order {
            let turn = turn(tools[at], args, seconds)?;
            eprintln!("round {round}: {:<8} {:>10.0}/s", tools[at].name(), turn.per_second);
            turns[at].push(turn);
        }
    }
    print(&tools, &turns)
}

fn print(tools: &[Tool], turns: &[Vec<Turn>]) -> anyhow::Result<()> {
    let ours = &turns[0];
    println!(
        "{:<8} {:>10} {:>21} {:>9} {:>16}",
        "", "requests/s", "(least to most)", "to ours", "own CPU/request"
    );
    let mut apart = Vec::new();
    for (tool, turns) in tools.iter().zip(turns) {
        let rates: Vec<_> = turns.iter().map(|turn| turn.per_second).collect();
        let own: Vec<_> = turns.iter().map(|turn| turn.cpu_us_per_request).collect();
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        // Within rounds only: from one to the next the machine may have become another.
        let ratios: Vec<_> = rates.iter().zip(ours).map(|(rate, ours)| rate / ours.per_second).collect();
        let percent = 100.0 * (median(&ratios) - 1.0);
        println!(
            "{:<8} {:>10.0} {:>21} {percent:>+8.1}% {:>13.2} us",
            tool.name(),
            median(&rates),
            format!("({least:.0} to {most:.0})"),
            median(&own)
        );
        if percent.abs() > TOLERANCE_PERCENT {
            apart.push(tool.name());
        }
    }
    ensure!(
        apart.is_empty(),
        "{} and ours differ by more than {TOLERANCE_PERCENT} %: on a quiet machine with the server as the limit they do not",
        apart.join(" and ")
    );
    Ok(())
}

fn turn(tool: Tool, args: &CrosscheckArgs, seconds: u64) -> anyhow::Result<Turn> {
    let before = children_cpu()?;
    let began = Instant::now();
    let mut command = command(tool, args, seconds)?;
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}: install it, or name it by --{0}", tool.name()))?;
    ensure!(output.status.success(), "{} failed: {}", tool.name(), output.status);
    let wall = began.elapsed();
    let text = String::from_utf8_lossy(&output.stdout);
    let per_second = match tool {
        Tool::Ours => serde_json::from_str::<LoadReport>(&text)?.per_second(),
        Tool::Wrk => wrk_rate(&text)?,
        Tool::H2load => h2load_rate(&text)?,
    };
    let cpu = children_cpu()?.saturating_sub(before);
    // CPU of all its time over the requests of all its time: ours is told to have no warm-up.
    let requests = per_second * wall.min(args.duration).as_secs_f64();
    Ok(Turn { per_second, cpu_us_per_request: 1e6 * cpu.as_secs_f64() / requests.max(1.0) })
}

fn command(tool: Tool, args: &CrosscheckArgs, seconds: u64) -> anyhow::Result<Command> {
    let connections = args.connections.to_string();
    let streams = args.streams_per_connection.to_string();
    let duration = format!("{seconds}s");
    let mut command = Command::new(match tool {
        Tool::Ours => std::env::current_exe()?,
        Tool::Wrk => args.wrk.clone(),
        Tool::H2load => args.h2load.clone(),
    });
    match tool {
        Tool::Ours => {
            let protocol = if args.protocol == Protocol::Http1 { "http1" } else { "h2c" };
            command.args([
                "load",
                "requests",
                "--json",
                "--quiet",
                "--warm-up",
                "0s",
                "--duration",
                &duration,
            ]);
            command.args(["--connections", &connections, "--protocol", protocol]);
            command.args(["--streams-per-connection", &streams, &args.url]);
        }
        Tool::Wrk => {
            command.args(["-t", "1", "-c", &connections, "-d", &duration, &args.url]);
        }
        Tool::H2load => {
            command.args(["-t", "1", "-c", &connections, "-m", &streams, "-D", &duration]);
            if args.protocol == Protocol::Http1 {
                command.arg("--h1");
            }
            command.arg(&args.url);
        }
    }
    Ok(command)
}

fn wrk_rate(text: &str) -> anyhow::Result<f64> {
    number_after(text, "Requests/sec:").context("wrk printed no rate")
}

fn h2load_rate(text: &str) -> anyhow::Result<f64> {
    let line =
        text.lines().find(|line| line.starts_with("finished in ")).context("h2load printed no rate")?;
    let rate = line.split(", ").find_map(|part| part.strip_suffix(" req/s"));
    rate.and_then(|rate| rate.trim().parse().ok()).context("h2load printed no rate")
}

fn number_after(text: &str, name: &str) -> Option<f64> {
    text.split_once(name)?.1.split_whitespace().next()?.parse().ok()
}

/// CPU of all children that have ended and been waited for: fields 16 and 17 of proc_pid_stat(5), in ticks.
fn children_cpu() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(Path::new("/proc/self/stat"))?;
    let Some((_, fields)) = stat.rsplit_once(')') else { bail!("/proc/self/stat cannot be read") };
    let ticks: u64 =
        fields.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_secs_f64(float(ticks) / float(TICKS_PER_SECOND)))
}

// === impl Tool ===

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Wrk => "wrk",
            Self::H2load => "h2load",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_others_print() {
        let wrk = "  12 requests in 1.00s, 1MB read\nRequests/sec:  51234.56\nTransfer/sec:     8.00MB\n";
        assert!((wrk_rate(wrk).unwrap() - 51_234.56).abs() < 1e-6);
        let h2load = "starting\nfinished in 3.00s, 12345.67 req/s, 1.23MB/s\nrequests: 1 total\n";
        assert!((h2load_rate(h2load).unwrap() - 12_345.67).abs() < 1e-6);
        assert!(wrk_rate("").is_err() && h2load_rate("finished in 3.00s, ? req/s, x").is_err());
    }
}
