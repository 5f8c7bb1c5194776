//! One of the programs as a child: where it listens, what it logs, how much memory it takes.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Lines of the log that nobody has read yet. More are thrown away.
const LOG_LINES: usize = 1024;

/// A running program, killed with this value.
pub(super) struct Program {
    child: Child,
    log: mpsc::Receiver<Value>,
    /// What it said of its addresses, e.g. `listening http=127.0.0.1:8080`.
    listening: [String; 2],
}

/// Memory of a process, in millions of bytes.
pub(super) struct Memory {
    /// Resident now.
    pub(super) resident: f64,
    /// Resident at the worst moment.
    pub(super) peak: f64,
}

// === impl Program ===

impl Program {
    /// Starts it and waits until it listens.
    pub(super) fn start(program: &Path, args: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .args(args)
            .args(["--log-format", "json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{}; build it first", program.display()))?;
        let stdout = child.stdout.take().context("stdout is piped")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (lines, log) = mpsc::sync_channel(LOG_LINES);
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                match serde_json::from_str::<Value>(&line) {
                    Ok(line) if line["level"] == "INFO" => lines.try_send(line).unwrap_or_default(),
                    _ => eprintln!("{line}"),
                }
            }
        });
        let mut program = Self { child, log, listening: Default::default() };
        let mut lines = BufReader::new(stdout).lines();
        for address in &mut program.listening {
            *address = lines.next().context("it ended before it listened")??;
        }
        Ok(program)
    }

    /// Where it listens for `what`.
    pub(super) fn address(&self, what: &str) -> anyhow::Result<SocketAddr> {
        let prefix = format!("listening {what}=");
        let address = self.listening.iter().find_map(|line| line.strip_prefix(&prefix));
        Ok(address.with_context(|| format!("it does not say where it listens for {what}"))?.parse()?)
    }

    /// The next line of its log with this message.
    pub(super) fn log_line(&mut self, message: &str, deadline: Duration) -> anyhow::Result<Value> {
        let by = Instant::now() + deadline;
        loop {
            let left = by.saturating_duration_since(Instant::now());
            let Ok(line) = self.log.recv_timeout(left) else {
                bail!("it did not log {message:?} within {deadline:?}");
            };
            if line["message"] == message {
                return Ok(line);
            }
        }
    }

    /// Its memory, as the kernel counts it.
    pub(super) fn memory(&self) -> anyhow::Result<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = |name: &str| -> Option<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            let kib: u32 = line.trim().strip_suffix(" kB")?.parse().ok()?;
            Some(f64::from(kib) * 1024.0 / 1e6)
        };
        Ok(Memory { resident: field("VmRSS:").context("VmRSS")?, peak: field("VmHWM:").context("VmHWM")? })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
