//! The life of the demo: the stage, the tour, staying up, and the end, whichever way it comes.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use crate::args::Args;
use crate::screen::Screen;
use crate::stage::Stage;
use crate::tour::Tour;

/// How often it is seen to that everything still runs, once the tour is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What streams an A2A answer.
const A2A_CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"message/stream","params":{"message":{"role":"user","messageId":"1","parts":[{"kind":"text","text":"hello"}]}}}"#;

/// Signals that end the demo. Its exit code is theirs by the shells' custom: 128 and the number.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// Runs the demo. The exit code says whether every step held.
///
/// # Errors
/// There is no stage to play on.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // One thread: programs are killed when the thread that started them ends, so that must be the last to.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(demo(args))
}

async fn demo(args: &Args) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("listening for signals")?;
    let screen = Screen::new(args.fast);
    let mut stage = Stage::new()?;
    let result = tokio::select! {
        biased;
        code = signals.next() => Ok(ExitCode::from(code)),
        result = show(&mut stage, &screen, args.once) => result.map(|()| ExitCode::SUCCESS),
    };
    let Err(error) = result else {
        stage.end().await.close().context("removing the temporary folder")?;
        // The terminal may be what is gone.
        writeln!(std::io::stdout(), "\nEverything is stopped and removed.").ok();
        return result;
    };
    let ended = stage.processes.ended();
    let folder = stage.end().await.keep();
    writeln!(std::io::stdout()).ok();
    screen.failed(format_args!("{error:#}")).ok();
    for process in ended {
        screen.failed(process).ok();
    }
    screen.say(format_args!("logs: {}", folder.join("logs").display())).ok();
    Ok(ExitCode::FAILURE)
}

async fn show(stage: &mut Stage, screen: &Screen, once: bool) -> anyhow::Result<()> {
    stage.start().await?;
    Tour::new(stage, screen).play().await?;
    if once {
        return Ok(());
    }
    suggest(stage, screen)?;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if !stage.processes.ended().is_empty() {
            bail!("not everything stayed up");
        }
    }
}

/// What to try while it is up.
fn suggest(stage: &Stage, screen: &Screen) -> anyhow::Result<()> {
    let (folder, admin) = (stage.folder().display(), stage.ports.gateway_admin);
    screen.title("Everything stays up until Ctrl-C. Try:")?;
    let streamed = stage.url("writer", "/stream");
    for command in [
        format!("curl {}", stage.url("echo-agent", "/hello")),
        format!("curl -N -d 'tell me something' {streamed}"),
        format!("curl {}", stage.url("writer", "/.well-known/agent-card.json")),
        format!("curl -N {} -d '{A2A_CALL}'", stage.url("writer", "")),
        format!("curl http://{admin}/metrics"),
        format!("curl http://{admin}/debug/routes"),
        format!("rm {folder}/manifests/echo-agent.yaml; curl {}", stage.url("echo-agent", "/hello")),
    ] {
        screen.command(command)?;
    }
    screen.say(format_args!("MCP clients: {}", stage.url("tools", "")))?;
    screen.say(format_args!("logs:        {folder}/logs"))?;
    Ok(())
}

// === impl Signals ===

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The exit code that the next signal asks for.
    async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
            _ = self.hangup.recv() => 129,
        }
    }
}
