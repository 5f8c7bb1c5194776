//! The steps of the tour, in their order. Each shows something, checks that it holds, and says so in one sentence.

mod calls;
mod changes;

use std::time::Duration;

use anyhow::Context as _;

use crate::screen::Screen;
use crate::stage::Stage;

/// A tour being played.
pub(crate) struct Tour<'a> {
    stage: &'a mut Stage,
    screen: &'a Screen,
    /// What each step has shown.
    done: Vec<(&'static str, String)>,
}

// === impl Tour ===

impl<'a> Tour<'a> {
    pub(crate) fn new(stage: &'a mut Stage, screen: &'a Screen) -> Self {
        Self { stage, screen, done: Vec::new() }
    }

    /// Plays all steps, and sums them up.
    ///
    /// # Errors
    /// The first step that does not hold, by its name.
    pub(crate) async fn play(mut self) -> anyhow::Result<()> {
        self.screen.title("Krypton, on this machine and without a cluster")?;
        self.step("What runs where", what_runs).await?;
        self.step("A call", calls::plain).await?;
        self.step("An answer that streams", calls::streamed).await?;
        self.step("A new agent, by copying its manifest", changes::agent_added).await?;
        self.step("An MCP server", calls::mcp).await?;
        self.step("A pod is taken away under traffic", changes::pod_taken_away).await?;
        self.step("The controller dies while calls go on", changes::controller_killed).await?;
        self.sum_up()
    }

    async fn step(
        &mut self,
        title: &'static str,
        step: impl AsyncFnOnce(&mut Stage, &Screen) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        let number = self.done.len() + 1;
        self.screen.heading(number, title)?;
        let shown =
            step(self.stage, self.screen).await.with_context(|| format!("step {number} ({title})"))?;
        self.screen.done(&shown)?;
        self.done.push((title, shown));
        self.screen.pause().await;
        Ok(())
    }

    fn sum_up(&self) -> anyhow::Result<()> {
        self.screen.heading(self.done.len() + 1, "All of it")?;
        let width = self.done.iter().map(|(title, _)| title.len()).max().unwrap_or_default();
        for (title, shown) in &self.done {
            self.screen.done(format_args!("{title:width$}  {shown}"))?;
        }
        Ok(())
    }
}

/// Shows the processes.
async fn what_runs(stage: &mut Stage, screen: &Screen) -> anyhow::Result<String> {
    let ports = stage.ports;
    let rows = [
        ("gateway", ports.gateway, "takes your calls"),
        ("controller", ports.discovery, "reads manifests, tells the gateway where to route"),
        ("writer-1", ports.writers[0], "agent \"writer\" (A2A), its first pod"),
        ("writer-2", ports.writers[1], "agent \"writer\", its second pod"),
        ("tools-1", ports.tools, "agent \"tools\" (MCP)"),
    ];
    for (name, address, role) in rows {
        let pid = stage.processes.pid(name).context("it was started")?;
        screen.say(format_args!("{name:<10}  {:<15}  pid {pid:<7}  {role}", address.to_string()))?;
    }
    screen.say(format_args!("manifests   {}", stage.manifests.path().display()))?;
    Ok(format!("{} real processes, and no Kubernetes", rows.len()))
}

/// A time as people read it: `850 µs`, `7.3 ms`, `56 ms`, `1.9 s`.
fn human(time: Duration) -> String {
    let us = time.as_micros();
    let ms = time.as_secs_f64() * 1e3;
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{ms:.1} ms"),
        10_000..1_000_000 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_with_the_digits_that_matter() {
        for (us, text) in [
            (0, "0 µs"),
            (850, "850 µs"),
            (7_340, "7.3 ms"),
            (56_400, "56 ms"),
            (999_400, "999 ms"),
            (1_940_000, "1.9 s"),
        ] {
            assert_eq!(human(Duration::from_micros(us)), text);
        }
    }
}
