//! The command `krypton-testbed`, which the Makefile and CI call.
//!
//! Flow of `run`: sweep, build what is missing, start a control plane, run the command, end the control plane, sweep
//! what the command's processes left. A signal ends the command first and takes the same way out.

use std::io::Write as _;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::binaries::{KUBERNETES_VERSION, Kubernetes};
use crate::bridge::Bridge;
use crate::cluster::{Cluster, TESTBED_ENV};
use crate::control_plane::{ControlPlane, KUBECONFIG};
use crate::process::{Lifetime, Program, Running};
use crate::state::{self, RunDir};

/// How long the kernel may take to clear away killed processes.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// Between two looks at the command and the control plane under it.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

/// What a shell reports of a command that Ctrl-C ended: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// A real Kubernetes API for tests and for people.
#[derive(Debug, Parser)]
#[command(name = "krypton-testbed", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run a command with a control plane of its own (KRYPTON_TESTBED and KUBECONFIG name its kubeconfig)
    Run {
        /// The command and its arguments
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
    /// Start a control plane and leave it running
    Up,
    /// End the control plane that `up` started
    Down,
    /// As `down`; also delete the Kubernetes programs that were built
    Clean,
    /// Say whether this machine can run a tier of tests; exits with 1 and the reason if it cannot
    Can {
        /// The tier
        tier: Tier,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Tier {
    Cluster,
    /// Needs all that `cluster` does.
    Bridge,
}

/// What ends a run before its command does.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

/// Runs the command line; tells a person on standard error what went wrong.
pub async fn run(cli: Cli) -> ExitCode {
    act(cli.command).await.unwrap_or_else(|error| {
        // One line: a backtrace through this tool tells nothing about the machine it complains about.
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

async fn act(action: Action) -> Result<ExitCode> {
    state::sweep().await?;
    match action {
        Action::Run { command } => run_command(&command).await,
        Action::Up => up().await,
        Action::Down => down().await,
        Action::Clean => {
            let done = down().await;
            Kubernetes::delete_built()?;
            done
        }
        Action::Can { tier } => can(tier),
    }
}

async fn run_command(command: &[String]) -> Result<ExitCode> {
    let run = RunDir::of_this_process()?;
    let mut signals = Signals::new()?;
    let started = tokio::select! {
        started = start(command, run) => started?,
        () = signals.recv() => return interrupted(run).await,
    };
    let (mut control_plane, mut running) = started;
    let status = tokio::select! {
        status = wait_for_end(&mut running, &mut control_plane) => status,
        () = signals.recv() => Ok(INTERRUPTED),
    };
    // The command's processes must be dead before the sweep asks whose bridges are left over.
    running.end(END_DEADLINE).await?;
    drop(control_plane);
    state::sweep().await?;
    run.clear().await?;
    Ok(ExitCode::from(status?))
}

/// Dropping this at any point ends what it started.
async fn start(command: &[String], run: &RunDir) -> Result<(ControlPlane, Running)> {
    let kubernetes = Kubernetes::prepare().await?;
    let control_plane = ControlPlane::start_in(run.path(), run, kubernetes, Lifetime::Tied).await?;
    let (path, args) = command.split_first().context("no command")?;
    let kubeconfig = control_plane.kubeconfig();
    let program =
        Program::new(path, path).args(args).env(TESTBED_ENV, kubeconfig).env("KUBECONFIG", kubeconfig);
    Ok((control_plane, program.start_in_the_open(run)?))
}

async fn interrupted(run: &RunDir) -> Result<ExitCode> {
    run.clear().await?;
    Ok(ExitCode::from(INTERRUPTED))
}

/// Waits for the command; when a program of the control plane dies under it, that is what gets told.
async fn wait_for_end(running: &mut Running, control_plane: &mut ControlPlane) -> Result<u8> {
    loop {
        if let Some(status) = running.exit_status()? {
            // A command that a signal ended has no code of its own.
            return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        }
        if let Some(program) = control_plane.ended()? {
            bail!("{program} ended while the command was running");
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

async fn up() -> Result<ExitCode> {
    let run = RunDir::of_the_standing_cluster()?;
    let kubeconfig = run.path().join(KUBECONFIG);
    if kubeconfig.is_file() && Cluster::connect(&kubeconfig).await?.readyz().await.is_ok() {
        eprintln!("It runs already.");
    } else {
        // What is left of one that did not come up or did not survive.
        run.clear().await?;
        let run = RunDir::of_the_standing_cluster()?;
        let mut signals = Signals::new()?;
        let control_plane = tokio::select! {
            started = start_standing(&run) => started?,
            () = signals.recv() => return interrupted(&run).await,
        };
        control_plane.leave_running();
    }
    eprintln!("Kubernetes v{KUBERNETES_VERSION} is running; `make cluster-down` ends it. To use it:");
    writeln!(std::io::stdout(), "export KUBECONFIG={}", kubeconfig.display())?;
    eprintln!("To run single tests on it: export {TESTBED_ENV}={}", kubeconfig.display());
    Ok(ExitCode::SUCCESS)
}

async fn start_standing(run: &RunDir) -> Result<ControlPlane> {
    let kubernetes = Kubernetes::prepare().await?;
    ControlPlane::start_in(run.path(), run, kubernetes, Lifetime::Detached).await
}

async fn down() -> Result<ExitCode> {
    let run = RunDir::of_the_standing_cluster()?;
    if run.running().is_empty() {
        eprintln!("No cluster is running.");
    }
    run.clear().await?;
    Ok(ExitCode::SUCCESS)
}

fn can(tier: Tier) -> Result<ExitCode> {
    let setpriv = std::process::Command::new("setpriv").arg("--version").stdout(Stdio::null()).status();
    ensure!(setpriv.is_ok_and(|status| status.success()), "setpriv is not there: install util-linux");
    Kubernetes::can_prepare()?;
    if let Tier::Bridge = tier {
        // Trying is the only sure answer: root in a container may lack the capability.
        Bridge::create().context("root is needed to make a network bridge")?;
    }
    Ok(ExitCode::SUCCESS)
}

// === impl Signals ===

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns at the first signal that asks for the end.
    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
