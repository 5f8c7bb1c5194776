//! The process round the server: what it prints, and what signals do to it.

use std::io::Write as _;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Args, serve};

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends it at once, leaving open answers cut.
///
/// Prints `listening on <address>` on standard output as soon as calls are accepted, so that a parent that asked
/// for port 0 can read the port.
///
/// # Errors
/// The address cannot be bound, or the process may not listen for signals.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot catch signals")?;
    let address = args.address();
    let server = serve(args).await.with_context(|| format!("cannot listen on {address}"))?;
    writeln!(std::io::stdout(), "listening on {}", server.address()).context("writing to standard output")?;

    signals.recv().await;
    log::info!("Draining");
    tokio::select! {
        drained = server.shutdown() => log::info!(cut = drained.cut; "Drained"),
        () = signals.recv() => log::warn!("Second signal: not waiting for open answers"),
    }
    Ok(())
}

/// The signals that ask for an end: SIGTERM from Kubernetes, SIGINT from a terminal.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
