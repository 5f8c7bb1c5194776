//! The flags of `krypton-bench load`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Subcommand, ValueEnum};

/// What to load a server with.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Kinds of load.
#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Call and wait for the answer: as fast as answers come, or --rate times a second
    Requests(Box<LoadArgs>),
    /// Read streams of events that carry a number and the time of their sending
    Sse(Box<LoadArgs>),
    /// Open connections or streams, and hold them until a line or the end of standard input
    Idle(Box<LoadArgs>),
    /// Send messages over WebSockets and wait for their echo
    Websocket(Box<LoadArgs>),
    /// Compare this generator with wrk and h2load, in turns, at one URL
    Crosscheck(Box<CrosscheckArgs>),
}

/// Flags of a load.
#[derive(Clone, Debug, clap::Args)]
pub struct LoadArgs {
    #[command(flatten)]
    pub(super) traffic: TrafficArgs,
    #[command(flatten)]
    pub(super) calls: CallArgs,
}

/// Flags of all kinds of load.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct TrafficArgs {
    /// Where to: `http://127.0.0.1:8080/path`; several share the connections. `{0..50}` in a path stands for each of
    /// these numbers
    #[arg(required = true, value_name = "URL")]
    pub urls: Vec<String>,

    /// Connections over all URLs
    #[arg(long, short, default_value_t = 64, value_name = "N")]
    pub connections: usize,

    /// Threads of the generator
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,

    /// Cores that it keeps to, one for each thread in turn
    #[arg(long, value_delimiter = ',', value_name = "CORE,…")]
    pub cores: Vec<usize>,

    /// Never sleep, so that a server does not pay for waking this process. Takes its cores for itself, and cannot tell
    /// any more whether it was the limit
    #[arg(long)]
    pub busy_poll: bool,

    /// Addresses to connect from, in turn: one has some 28,000 ports to a server
    #[arg(long, value_delimiter = ',', value_name = "ADDRESS,…")]
    pub source: Vec<IpAddr>,

    /// The protocol of the connections
    #[arg(long, value_enum, default_value_t = Protocol::Http1)]
    pub protocol: Protocol,

    /// Streams at the same time on each connection; only with --protocol h2c
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub streams_per_connection: usize,

    /// How long to measure. Of `idle`: how long to hold, instead of until standard input says
    #[arg(long, short, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub duration: Option<Duration>,

    /// Load before the measurement, which is not counted
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub warm_up: Duration,

    /// After how long without an answer a call has failed
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub timeout: Duration,

    /// A header field of every request, as "Name: value"
    #[arg(long, short = 'H', value_name = "FIELD")]
    pub header: Vec<String>,

    /// Print the report as a line of JSON
    #[arg(long)]
    pub json: bool,

    /// Print a line of JSON when the measurement begins and when it ends, before the report
    #[arg(long)]
    pub announce: bool,

    /// Show no progress
    #[arg(long, short)]
    pub quiet: bool,

    /// Let the load leave this machine. Only to a server that is yours
    #[arg(long)]
    pub allow_remote: bool,
}

/// Longest body of a request: it is held in memory.
const MAX_BODY_BYTES: u64 = 1 << 30;

/// Flags that say what is asked.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CallArgs {
    /// Calls a second over all connections, whether answers come or not (open loop); without it each connection waits
    /// for its answer (closed loop)
    #[arg(long, short, value_name = "PER_SECOND")]
    pub rate: Option<f64>,

    /// The method [default: GET, with a body POST]
    #[arg(long, short, value_name = "METHOD", conflicts_with = "mix")]
    pub method: Option<String>,

    /// Bytes of the body of each request, or of each message of a WebSocket
    #[arg(long, short, default_value_t = 0, value_name = "N", conflicts_with = "mix", value_parser = RangedU64ValueParser::<usize>::new().range(..=MAX_BODY_BYTES))]
    pub body_bytes: usize,

    /// A line "WEIGHT METHOD PATH BODY_BYTES" (the last may be left out), repeated for several, or a file of such lines;
    /// the path is appended to that of the URL
    #[arg(long, value_name = "LINE|FILE")]
    pub mix: Vec<String>,
}

/// Flags of the comparison with other generators.
#[derive(Clone, Debug, clap::Args)]
pub struct CrosscheckArgs {
    /// Where to: a server on this machine that needs more CPU for a request than a generator does, as a proxy, so that
    /// it is the limit
    #[arg(value_name = "URL")]
    pub url: String,

    /// Connections of each generator
    #[arg(long, short, default_value_t = 64, value_name = "N")]
    pub connections: usize,

    /// Length of each measurement
    #[arg(long, short, default_value = "3s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub duration: Duration,

    /// How often each takes its turn
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub rounds: usize,

    /// Cores that each generator keeps to
    #[arg(long, value_delimiter = ',', value_name = "CORE,…")]
    pub cores: Vec<usize>,

    /// The protocol; wrk speaks only http1
    #[arg(long, value_enum, default_value_t = Protocol::Http1)]
    pub protocol: Protocol,

    /// Streams at the same time on each connection; only with --protocol h2c
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub streams_per_connection: usize,

    /// The program wrk
    #[arg(long, default_value = "wrk", value_name = "PROGRAM")]
    pub wrk: PathBuf,

    /// The program h2load
    #[arg(long, default_value = "h2load", value_name = "PROGRAM")]
    pub h2load: PathBuf,
}

/// What is spoken on the connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1, kept alive
    Http1,
    /// HTTP/2 in the clear, without asking first
    H2c,
}
