//! The real programs with a large table: how fast a gateway is whole, how much memory it takes, how fast it uses
//! an endpoint that has changed.
//!
//! Owns one run of it. Never judges: it prints figures.
//!
//! 1. A folder is filled with Agents, each with its EndpointSlice in a file of its own; a controller reads it.
//! 2. Gateways are started one after the other; each says in its log how long its first table took.
//! 3. At the last one, the slice of one agent is moved between two pods of ours, again and again, while calls tell
//!    which of the pods answers.

mod folder;
mod pods;
mod program;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;

use crate::programs::Programs;
use folder::Folder;
use pods::{Caller, Pods};
use program::{Memory, Program};

/// The longest that anything here is waited for.
const DEADLINE: Duration = Duration::from_mins(1);

/// Pause between two calls that look for a change: the resolution of what is measured.
const PACE: Duration = Duration::from_millis(1);

/// Any free port.
const ANY: &str = "127.0.0.1:0";

/// Measures a gateway and a controller with a large table
#[derive(Debug, Parser)]
#[command(max_term_width = 100)]
pub struct Args {
    /// Agents in the folder, each with four endpoints
    #[arg(long, default_value_t = 5_000)]
    pub agents: usize,

    /// How often a gateway is started
    #[arg(long, default_value_t = 5)]
    pub starts: usize,

    /// How often an endpoint is changed
    #[arg(long, default_value_t = 200)]
    pub changes: usize,

    /// The folder with krypton-gateway and krypton-controller [default: where this program is]
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
}

/// A controller on a folder of agents, for gateways to be started at.
pub(crate) struct Running {
    gateway: PathBuf,
    folder: Folder,
    controller: Program,
    discovery: String,
    first_snapshot: Duration,
}

/// A gateway with a whole table; it ends with this value.
pub(crate) struct Started {
    program: Program,
    /// From the start of its process.
    pub(crate) start: Duration,
    /// From its connection to the controller, as it says.
    from_connecting: Duration,
}

/// Runs it and prints the figures.
///
/// # Errors
/// When a program does not start, or something does not come within a minute.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let programs = match &args.programs {
        Some(folder) => folder.clone(),
        None => std::env::current_exe()?.parent().context("this program is in a folder")?.to_owned(),
    };
    println!("{} agents x 4 endpoints, a file each", args.agents);
    let mut running = Running::start(&Programs::in_folder(&programs), args.agents)?;
    print("controller: from start to its first snapshot", &mut [running.first_snapshot]);
    print_memory("controller: memory", &running.controller.memory()?);

    let mut gateway = None;
    let (mut whole, mut started) = (Vec::new(), Vec::new());
    for _ in 0..args.starts.max(1) {
        drop(gateway.take());
        let Started { program, start, from_connecting } = running.start_gateway()?;
        started.push(start);
        whole.push(from_connecting);
        gateway = Some(program);
    }
    let Running { folder, controller, .. } = &mut running;
    let gateway = gateway.context("a gateway was started")?;
    print("gateway: from connecting to a whole table", &mut whole);
    print("gateway: from start to a whole table", &mut started);
    print_memory("gateway: memory with the first table", &gateway.memory()?);

    let mut caller = Caller::new(gateway.address("http")?, DEADLINE);
    let mut changes = Vec::with_capacity(args.changes);
    for n in 0..args.changes {
        let pod = n % 2;
        let began = Instant::now();
        folder.move_to(pod)?;
        caller.call_until_answered_by(pod, PACE)?;
        changes.push(began.elapsed());
    }
    print("change: from the file to a call that uses it", &mut changes);
    println!("{:52} {} of {}", "change: calls that failed meanwhile", caller.failed(), caller.calls());
    print_memory("gateway: memory after the changes", &gateway.memory()?);
    print_memory("controller: memory after the changes", &controller.memory()?);
    Ok(())
}

// === impl Running ===

impl Running {
    /// Starts a controller on so many agents, and waits until it has read them.
    pub(crate) fn start(programs: &Programs, agents: usize) -> anyhow::Result<Self> {
        let pods = Pods::start()?;
        let folder = Folder::fill(agents, &pods)?;
        let began = Instant::now();
        let mut controller = Program::start(
            &programs.controller,
            &["--manifests", folder.path(), "--discovery-listen", ANY, "--admin-listen", ANY],
        )?;
        controller.log_line("First snapshot is complete", DEADLINE)?;
        let first_snapshot = began.elapsed();
        let discovery = format!("http://{}", controller.address("discovery")?);
        Ok(Self { gateway: programs.gateway.clone(), folder, controller, discovery, first_snapshot })
    }

    /// Starts a gateway, and waits until it has the whole table.
    pub(crate) fn start_gateway(&self) -> anyhow::Result<Started> {
        let began = Instant::now();
        let listen = ["--listen", ANY, "--admin-listen", ANY, "--discovery", &self.discovery];
        let flags = ["--allow-loopback-endpoints", "--access-log", "false", "--drain-delay", "0s"];
        let mut program = Program::start(&self.gateway, &[&listen[..], &flags[..]].concat())?;
        let line = program.log_line("Route table is whole and kept up to date", DEADLINE)?;
        let start = began.elapsed();
        let took = line["took_ms"].as_f64().context("the line has no took_ms")?;
        Ok(Started { program, start, from_connecting: Duration::from_secs_f64(took / 1000.0) })
    }
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1000.0
    };
    match times {
        [only] => println!("{what:52} {:.1} ms", only.as_secs_f64() * 1000.0),
        _ => println!(
            "{what:52} median {:.1} ms, p99 {:.1} ms, longest {:.1} ms, of {}",
            at(50),
            at(99),
            at(100),
            times.len()
        ),
    }
}

fn print_memory(what: &str, memory: &Memory) {
    println!("{what:52} {:.1} MB resident, at most {:.1} MB", memory.resident, memory.peak);
}
