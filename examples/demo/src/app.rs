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
use crate::stage::cluster::ClusterStage;
use crate::stage::local::LocalStage;

/// How often it is seen to that everything still runs, once the tour is over.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
    if args.cluster {
        runtime.block_on(async { demo(args, ClusterStage::new()?).await })
    } else {
        runtime.block_on(async { demo(args, LocalStage::new()?).await })
    }
}

async fn demo<S: Stage>(args: &Args, mut stage: S) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("listening for signals")?;
    let screen = Screen::new(args.fast);
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
    let ended = stage.processes().ended();
    let logs = S::keep_logs(stage.end().await);
    writeln!(std::io::stdout()).ok();
    screen.failed(format_args!("{error:#}")).ok();
    for process in ended {
        screen.failed(process).ok();
    }
    screen.say(format_args!("logs: {}", logs.display())).ok();
    Ok(ExitCode::FAILURE)
}

async fn show(stage: &mut impl Stage, screen: &Screen, once: bool) -> anyhow::Result<()> {
    stage.play(screen).await?;
    if once {
        return Ok(());
    }
    screen.title("Everything stays up until Ctrl-C. Try:")?;
    stage.suggest(screen)?;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if !stage.processes().ended().is_empty() {
            bail!("not everything stayed up");
        }
    }
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
