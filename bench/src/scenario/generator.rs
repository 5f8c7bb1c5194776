//! The generator as a process of its own, on cores of its own.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::catalogue::Call;
use crate::load::LoadReport;

/// The longest that a generator may take beyond the time that it is asked to measure.
const GRACE: Duration = Duration::from_mins(1);

/// How `krypton-bench load` is called.
#[derive(Debug, Clone)]
pub(super) struct Load {
    args: Vec<String>,
    time: Duration,
}

/// A generator that runs.
pub(super) struct Generating {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Kept open: with its end the generator ends.
    input: Option<ChildStdin>,
    time: Duration,
}

// === impl Load ===

impl Load {
    pub(super) fn new(kind: &str, cores: &[usize]) -> Self {
        let cores: Vec<_> = cores.iter().map(ToString::to_string).collect();
        let load = Self { args: vec!["load".to_owned(), kind.to_owned()], time: Duration::ZERO };
        load.flag("--json")
            .flag("--announce")
            .flag("--quiet")
            .set("--cores", &cores.join(","))
            .set("--threads", &cores.len())
    }

    /// Calls of that kind to each of `urls` in turn.
    pub(super) fn calls(call: Call, connections: u32, cores: &[usize]) -> Self {
        let mut load = Self::new("requests", cores).set("--connections", &connections);
        if let Some(body) = call.body {
            load = load.set("--body-bytes", &body);
        }
        match call.h2_streams {
            Some(streams) => load.set("--protocol", "h2c").set("--streams-per-connection", &streams),
            None => load,
        }
    }

    /// It does not sleep.
    pub(super) fn busy_poll(self, is_wanted: bool) -> Self {
        if is_wanted { self.flag("--busy-poll") } else { self }
    }

    pub(super) fn url(self, url: &str) -> Self {
        self.flag(url)
    }

    pub(super) fn rate(self, rate: Option<f64>) -> Self {
        match rate {
            Some(rate) => self.set("--rate", &format!("{rate:.1}")),
            None => self,
        }
    }

    pub(super) fn time(self, duration: Duration, warm_up: Duration) -> Self {
        let text = |time: Duration| humantime::format_duration(time).to_string();
        let load = self.set("--duration", &text(duration)).set("--warm-up", &text(warm_up));
        Self { time: duration + warm_up, ..load }
    }

    pub(super) fn flag(mut self, flag: &str) -> Self {
        self.args.push(flag.to_owned());
        self
    }

    /// Gives a flag its value; a value that it has is replaced.
    pub(super) fn set(mut self, flag: &str, value: &(impl ToString + ?Sized)) -> Self {
        match self.args.iter().position(|arg| arg == flag) {
            Some(at) => self.args[at + 1] = value.to_string(),
            None => self.args.extend([flag.to_owned(), value.to_string()]),
        }
        self
    }

    /// Whether it can tell that it was itself the limit: not when it takes its core whatever there is to do.
    pub(super) fn knows_its_limit(&self) -> bool {
        let has = |flag| self.args.iter().any(|arg| arg == flag);
        has("--rate") || !has("--busy-poll")
    }

    pub(super) fn start(&self) -> anyhow::Result<Generating> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(&self.args).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("the generator does not start")?;
        let output = child.stdout.take().context("it has an output")?;
        let input = child.stdin.take();
        Ok(Generating { child, lines: BufReader::new(output).lines(), input, time: self.time })
    }
}

// === impl Generating ===

impl Generating {
    /// Waits for a line with that key, as `{"measuring":true}`.
    pub(super) async fn until(&mut self, key: &str) -> anyhow::Result<()> {
        let wanted = format!("\"{key}\"");
        let line = tokio::time::timeout(self.time + GRACE, self.lines.next_line()).await;
        match line.with_context(|| format!("the generator did not come to say {key}"))?? {
            Some(line) if line.contains(&wanted) => Ok(()),
            Some(line) => bail!("the generator said {line:?} where {key} was expected"),
            None => bail!("the generator ended before it said {key}"),
        }
    }

    /// Lets go of what is held.
    pub(super) fn release(&mut self) {
        self.input = None;
    }

    /// What it says at its end.
    pub(super) async fn report(mut self) -> anyhow::Result<LoadReport> {
        let read = async {
            let mut last = None;
            while let Some(line) = self.lines.next_line().await? {
                last = Some(line).filter(|line| !line.is_empty()).or(last);
            }
            anyhow::Ok(last)
        };
        let last = tokio::time::timeout(self.time + GRACE, read).await.context("the generator hangs")??;
        let status = self.child.wait().await?;
        ensure!(status.success(), "the generator failed ({status})");
        serde_json::from_str(&last.context("the generator said nothing")?).context("what the generator said")
    }
}
