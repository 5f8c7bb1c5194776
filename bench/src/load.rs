//! The load generator: calls, streams of events, idle connections and WebSockets, in a process of its own so that its
//! CPU and its cores are its own.
//!
//! Owns: the flags, one run, its report. Never goes to another machine unasked, and never runs longer than an hour.
//!
//! - An *open loop* (`--rate`) calls at a fixed rate whether answers come or not, and counts latency from the time at
//!   which a call was due. A server that stalls shows in the percentiles: nobody waits for it before calling again.
//! - A *closed loop* calls again when the answer has come. It finds out how much a server can do, and hides stalls:
//!   while one lasts, no call is made that would suffer from it.
//!
//! Flow: [`args`] → [`plan`] (flags are right) → [`run`] (threads, the window) → [`thread`] (lanes of one core) →
//! [`lane`], [`sse`], [`idle`], [`websocket`] over an [`exchange`] ([`http1`], [`h2c`]) → [`record`] → [`report`].

pub mod args;
mod arrivals;
mod clock;
mod crosscheck;
mod events;
mod exchange;
mod failure;
mod gate;
mod h2c;
mod http1;
mod idle;
mod lane;
mod limits;
mod mix;
mod plan;
mod record;
pub mod report;
mod run;
mod schedule;
mod sse;
mod target;
mod thread;
mod websocket;
mod wire;

use std::io::Write as _;

use anyhow::ensure;
pub use args::Args;
use args::{Command, LoadArgs};
pub(crate) use plan::MAX_DURATION;
use plan::Plan;
pub use report::{Generator, Kind, LoadReport, Sse};

/// Puts the load on, and prints the report.
///
/// # Errors
/// A sentence that names the flag or the server, and what to do.
pub fn main(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Requests(args) => put(Kind::Requests, args),
        Command::Sse(args) => put(Kind::Sse, args),
        Command::Idle(args) => put(Kind::Idle, args),
        Command::Websocket(args) => put(Kind::WebSocket, args),
        Command::Crosscheck(args) => crosscheck::main(args),
    }
}

fn put(kind: Kind, args: &LoadArgs) -> anyhow::Result<()> {
    let plan = Plan::new(kind, &args.traffic, &args.calls)?;
    let json = plan.output.json;
    let report = run::run(plan)?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        writeln!(out, "{report}")?;
    }
    ensure!(
        report.interrupted || report.has_answers(),
        "nothing was answered well: check the path, and the server"
    );
    Ok(())
}
