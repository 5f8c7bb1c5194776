//! An origin as a child process.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use krypton_e2e::process::{Program, Running};
use krypton_e2e::state::RunDir;
use serde::Deserialize;

/// It starts in milliseconds; this is for a machine that is busy.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// An origin that runs, and ends with this value.
#[derive(Debug)]
pub struct Origin {
    process: Running,
    addresses: Vec<SocketAddr>,
}

#[derive(Deserialize)]
struct Listening {
    listening: Vec<SocketAddr>,
}

// === impl Origin ===

impl Origin {
    /// Starts one: `bench` is the program `krypton-bench`, `args` are those of its command `origin`.
    ///
    /// # Errors
    /// When it does not come to listen; with the end of its log.
    pub async fn start(bench: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let program = Program::new("origin", bench).arg("origin").args(args);
        let mut process = program.start(RunDir::of_this_process()?)?;
        let log = process.log();
        let listening = process
            .until("it listens", START_DEADLINE, async || {
                let log = log.read()?;
                let line = log.lines().next().context("it says nothing yet")?;
                Ok(serde_json::from_str::<Listening>(line)?)
            })
            .await?;
        Ok(Self { process, addresses: listening.listening })
    }

    /// Where it listens, in the order asked for.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The process itself.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }
}
