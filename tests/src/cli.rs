//! The command `krypton-testbed`, which the Makefile and CI call.
//!
//! Flow of `run`: sweep, build what is missing, start a control plane, run the command, end the control plane, sweep
//! what the command's processes left. A signal ends the command first and takes the same way out.

use std::io::Write as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::binaries::{KUBERNETES_VERSION, Kubernetes, NodePrograms};
use crate::bridge::Bridge;
use crate::cluster::{Cluster, KUBECTL_ENV, TESTBED_ENV, TESTBED_NODE_ENV};
use crate::control_plane::{ControlPlane, KUBECONFIG};
use crate::node::Node;
use crate::process::{Lifetime, Program, Running};
use crate::prometheus::Prometheus;
use crate::state::{self, RunDir};
use crate::tools::{self, ENVOY, HELM, Tool};

/// How long the kernel may take to clear away killed processes.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// How long a command that a signal ends may take to clear away what it made.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

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
    /// Run a command with a control plane of its own (KRYPTON_TESTBED and KUBECONFIG name its kubeconfig,
    /// KRYPTON_TESTBED_KUBECTL its kubectl)
    Run {
        /// Start another one, with a node that runs pods (KRYPTON_TESTBED_NODE and KUBECONFIG name that one's)
        #[arg(long)]
        node: bool,
        /// The command and its arguments
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
    /// Start a control plane and leave it running
    Up {
        /// Start one that has a node which runs pods
        #[arg(long)]
        node: bool,
    },
    /// End what `up` started
    Down,
    /// As `down`; also delete the programs that were built or downloaded
    Clean,
    /// Build or download programs that stand around Krypton in a cluster, once, and print where they are
    Prepare {
        /// Which [default: all]
        #[arg(value_parser = tool)]
        tools: Vec<Tool>,
    },
    /// Say whether this machine can run a tier of tests; exits with 1 and the reason if it cannot
    Can {
        /// The tier
        tier: Tier,
    },
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
enum Tier {
    Cluster,
    /// Needs all that `cluster` does.
    Bridge,
    /// Needs all that `bridge` does.
    Node,
    /// Needs nothing of the others.
    Front,
    /// Needs nothing of the others.
    Metrics,
}

/// What a command stands on; dropping it ends all of it.
struct Ground {
    node: Option<Node>,
    control_plane: ControlPlane,
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
        Action::Run { node, command } => run_command(&command, node).await,
        Action::Up { node } => up(node).await,
        Action::Down => down().await,
        Action::Clean => {
            let done = down().await;
            Kubernetes::delete_built()?;
            for tool in tools::ALL {
                tool.delete()?;
            }
            done
        }
        Action::Prepare { tools } => prepare(if tools.is_empty() { &tools::ALL } else { &tools }).await,
        Action::Can { tier } => can(tier).await,
    }
}

async fn prepare(tools: &[Tool]) -> Result<ExitCode> {
    for tool in tools {
        writeln!(std::io::stdout(), "{}", tool.prepare().await?.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The tool of that name.
fn tool(name: &str) -> Result<Tool, String> {
    let found = tools::ALL.into_iter().find(|tool| tool.name() == name);
    found.ok_or_else(|| format!("not one of {}", tools::ALL.map(|tool| tool.name()).join(", ")))
}

async fn run_command(command: &[String], node: bool) -> Result<ExitCode> {
    let run = RunDir::of_this_process()?;
    let mut signals = Signals::new()?;
    let started = tokio::select! {
        started = start(command, node, run) => started?,
        () = signals.recv() => return interrupted(run).await,
    };
    let (mut ground, mut running) = started;
    let status = tokio::select! {
        status = wait_for_end(&mut running, &mut ground) => status,
        () = signals.recv() => {
            running.terminate();
            // One that does not end by itself is killed below.
            running.ended(STOP_DEADLINE).await.ok();
            Ok(INTERRUPTED)
        }
    };
    // The command's processes must be dead before the sweep asks whose bridges are left over.
    running.end(END_DEADLINE).await?;
    drop(ground);
    state::sweep().await?;
    run.clear().await?;
    Ok(ExitCode::from(status?))
}

/// Dropping this at any point ends what it started.
async fn start(command: &[String], node: bool, run: &RunDir) -> Result<(Ground, Running)> {
    let kubernetes = Kubernetes::prepare().await?;
    let kubectl = kubernetes.kubectl.clone();
    let control_plane = ControlPlane::start_in(run.path(), run, kubernetes.clone(), Lifetime::Tied);
    let ground = if node {
        let programs = NodePrograms::prepare().await?;
        // A folder of its own for the second control plane.
        let folder = run.path().join("n");
        std::fs::create_dir_all(&folder)?;
        let node = Box::pin(Node::start_in(&folder, run, (kubernetes, programs), Lifetime::Tied));
        let (control_plane, node) = tokio::try_join!(control_plane, node)?;
        Ground { control_plane, node: Some(node) }
    } else {
        Ground { control_plane: control_plane.await?, node: None }
    };
    let (path, args) = command.split_first().context("no command")?;
    let mut program = Program::new(path, path).args(args).env(TESTBED_ENV, ground.control_plane.kubeconfig());
    if let Some(node) = &ground.node {
        program = program.env(TESTBED_NODE_ENV, node.kubeconfig());
    }
    program = program.env(KUBECTL_ENV, kubectl);
    // What kubectl keeps of this cluster goes with it.
    let program =
        program.env("KUBECONFIG", ground.kubeconfig()).env("KUBECACHEDIR", run.path().join("kubectl-cache"));
    let running = program.start_in_the_open(run)?;
    Ok((ground, running))
}

async fn interrupted(run: &RunDir) -> Result<ExitCode> {
    run.clear().await?;
    Ok(ExitCode::from(INTERRUPTED))
}

/// Waits for the command; when a program of the control plane dies under it, that is what gets told.
async fn wait_for_end(running: &mut Running, ground: &mut Ground) -> Result<u8> {
    loop {
        if let Some(status) = running.exit_status()? {
            // A command that a signal ended has no code of its own.
            return Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        }
        if let Some(program) = ground.ended()? {
            bail!("{program} ended while the command was running");
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}

async fn up(node: bool) -> Result<ExitCode> {
    let run = standing(node)?;
    let kubeconfig = run.path().join(KUBECONFIG);
    if kubeconfig.is_file() && Cluster::connect(&kubeconfig).await?.readyz().await.is_ok() {
        eprintln!("It runs already.");
    } else {
        // What is left of one that did not come up or did not survive.
        run.clear().await?;
        let run = standing(node)?;
        let mut signals = Signals::new()?;
        tokio::select! {
            started = start_standing(node, &run) => started?,
            () = signals.recv() => return interrupted(&run).await,
        }
    }
    eprintln!("Kubernetes v{KUBERNETES_VERSION} is running; `make cluster-down` ends it. To use it:");
    writeln!(std::io::stdout(), "export KUBECONFIG={}", kubeconfig.display())?;
    let variable = if node { TESTBED_NODE_ENV } else { TESTBED_ENV };
    eprintln!("To run single tests on it: export {variable}={}", kubeconfig.display());
    Ok(ExitCode::SUCCESS)
}

fn standing(node: bool) -> Result<RunDir> {
    if node { RunDir::of_the_standing_node() } else { RunDir::of_the_standing_cluster() }
}

async fn start_standing(node: bool, run: &RunDir) -> Result<()> {
    let kubernetes = Kubernetes::prepare().await?;
    if node {
        let programs = NodePrograms::prepare().await?;
        let node = Node::start_in(run.path(), run, (kubernetes, programs), Lifetime::Detached);
        Box::pin(node).await?.leave_running();
    } else {
        ControlPlane::start_in(run.path(), run, kubernetes, Lifetime::Detached).await?.leave_running();
    }
    Ok(())
}

async fn down() -> Result<ExitCode> {
    let runs = [standing(false)?, standing(true)?];
    if runs.iter().all(|run| run.running().is_empty()) {
        eprintln!("No cluster is running.");
    }
    for run in runs {
        run.clear().await?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn can(tier: Tier) -> Result<ExitCode> {
    if tier == Tier::Front {
        tools::FRONTS.iter().try_for_each(|program| tools::installed(program).map(drop))?;
        ENVOY.can_prepare()?;
        return Ok(ExitCode::SUCCESS);
    }
    let setpriv = std::process::Command::new("setpriv").arg("--version").stdout(Stdio::null()).status();
    ensure!(setpriv.is_ok_and(|status| status.success()), "setpriv is not there: install util-linux");
    if tier == Tier::Metrics {
        Prometheus::can_start()?;
        return Ok(ExitCode::SUCCESS);
    }
    Kubernetes::can_prepare()?;
    HELM.can_prepare()?;
    if tier >= Tier::Bridge {
        // Trying is the only sure answer: root in a container may lack the capability.
        Bridge::create().context("root is needed to make a network bridge")?;
    }
    if tier == Tier::Node {
        Node::can_start().await?;
    }
    RunDir::of_this_process()?.clear().await?;
    Ok(ExitCode::SUCCESS)
}

// === impl Ground ===

impl Ground {
    /// What a person wants to look at: with a node, that.
    fn kubeconfig(&self) -> &Path {
        self.node.as_ref().map_or(self.control_plane.kubeconfig(), Node::kubeconfig)
    }

    /// The name of a program that ended by itself, if one did.
    fn ended(&mut self) -> Result<Option<&'static str>> {
        match self.node.as_mut().map(Node::ended).transpose()?.flatten() {
            None => self.control_plane.ended(),
            ended => Ok(ended),
        }
    }
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
