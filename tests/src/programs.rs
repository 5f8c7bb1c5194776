//! Krypton's own programs as child processes, on ports that the system chose.
//!
//! Owns: finding the binaries that were built with the tests, the flags every test needs, and reading from a program's
//! output where it listens: `listening <name>=<address>` for each listener, `listening on <address>` of the one that an
//! agent has.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use crate::cluster::Cluster;
use crate::process::{Program, Running};
use crate::state::RunDir;

/// They start in milliseconds; this is for a machine that is busy with other tests.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Any free port on loopback.
const ANY: &str = "127.0.0.1:0";

/// A folder of programs to test in place of those that were built with the tests, where it has them: a release build.
const PROGRAMS: &str = "KRYPTON_PROGRAMS";

/// A gateway.
#[derive(Debug)]
pub struct Gateway {
    /// The process.
    pub process: Running,
    /// Where calls go.
    pub http: SocketAddr,
    /// Where probes and metrics are.
    pub admin: SocketAddr,
}

/// A controller.
#[derive(Debug)]
pub struct Controller {
    /// The process.
    pub process: Running,
    /// Where gateways connect.
    pub discovery: SocketAddr,
    /// Where probes and metrics are.
    pub admin: SocketAddr,
}

/// An example agent.
#[derive(Debug)]
pub struct ExampleAgent {
    /// The process.
    pub process: Running,
    /// Where it answers.
    pub http: SocketAddr,
}

/// What a run of `kubectl-krypton` printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// `None` when a signal ended it.
    pub status: Option<i32>,
    /// Its answer.
    pub answer: String,
    /// What it said beside it.
    pub said: String,
}

/// Runs `kubectl-krypton` on that cluster, as its administrator.
///
/// # Errors
/// When it was not built.
pub async fn kubectl_krypton(cluster: &Cluster, args: &[&str]) -> Result<Ran> {
    let mut command = kubectl_krypton_command(cluster)?;
    let output = command.args(args).output().await.context("cannot run kubectl-krypton")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ran { status: output.status.code(), answer: text(&output.stdout), said: text(&output.stderr) })
}

/// The same for whoever reads its answer while it runs; it ends with its handle.
///
/// # Errors
/// When it was not built.
pub fn kubectl_krypton_command(cluster: &Cluster) -> Result<Command> {
    let mut command = Command::new(binary("kubectl-krypton")?);
    command.env("KUBECONFIG", cluster.kubeconfig()).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

// === impl Gateway ===

impl Gateway {
    /// Starts one that learns its routes from `discovery`; `args` are added.
    ///
    /// # Errors
    /// When it does not come to listen; with the end of its log.
    pub async fn start(discovery: SocketAddr, args: &[&str]) -> Result<Self> {
        Self::start_on(&format!("http://{discovery}"), args).await
    }

    /// The same, with the URL that its controller is known by.
    ///
    /// # Errors
    /// When it does not come to listen; with the end of its log.
    pub async fn start_on(discovery: &str, args: &[&str]) -> Result<Self> {
        let program = krypton("krypton-gateway")?.args(["--discovery", discovery]);
        let program = program.args(any_unless_given(["--listen", "--admin-listen"], args)).args(args);
        let mut process = program.start(RunDir::of_this_process()?)?;
        let admin = listening(&mut process, "admin=").await?;
        Ok(Self { http: listening(&mut process, "http=").await?, admin, process })
    }
}

// === impl Controller ===

impl Controller {
    /// Starts one that reads manifests from a folder; `args` are added.
    ///
    /// # Errors
    /// When it does not come to listen; with the end of its log.
    pub async fn start_on_manifests(folder: &Path, args: &[&str]) -> Result<Self> {
        Self::start(krypton("krypton-controller")?.arg("--manifests").arg(folder), args).await
    }

    /// Starts one that watches the Kubernetes API of `kubeconfig`; `args` are added.
    ///
    /// # Errors
    /// When it does not come to listen; with the end of its log.
    pub async fn start_on_cluster(kubeconfig: &Path, args: &[&str]) -> Result<Self> {
        Self::start(krypton("krypton-controller")?.env("KUBECONFIG", kubeconfig), args).await
    }

    /// Where it listens for something that not every controller serves, e.g. `webhooks=`.
    ///
    /// # Errors
    /// When it does not come to listen there; with the end of its log.
    pub async fn listening(&mut self, listener: &str) -> Result<SocketAddr> {
        listening(&mut self.process, listener).await
    }

    async fn start(program: Program, args: &[&str]) -> Result<Self> {
        let program =
            program.args(any_unless_given(["--discovery-listen", "--admin-listen"], args)).args(args);
        let mut process = program.start(RunDir::of_this_process()?)?;
        let admin = listening(&mut process, "admin=").await?;
        Ok(Self { discovery: listening(&mut process, "discovery=").await?, admin, process })
    }
}

// === impl ExampleAgent ===

impl ExampleAgent {
    /// Starts one at `listen` (port 0: any); `args` are added.
    ///
    /// # Errors
    /// When it does not come to listen; with the end of its log.
    pub async fn start(listen: SocketAddr, args: &[&str]) -> Result<Self> {
        let program = krypton("krypton-example-agent")?.arg("--listen").arg(listen.to_string()).args(args);
        let mut process = program.start(RunDir::of_this_process()?)?;
        Ok(Self { http: listening(&mut process, "on ").await?, process })
    }
}

/// Flags for listeners at any port, but for those that `args` name: a test that starts a program again gives the address
/// that others know.
fn any_unless_given<'a>(flags: [&'a str; 2], args: &[&str]) -> impl Iterator<Item = &'a str> {
    flags.into_iter().filter(|flag| !args.contains(flag)).flat_map(|flag| [flag, ANY])
}

/// The program of that name, built with the running test.
///
/// # Errors
/// When it was not built.
pub fn krypton(name: &str) -> Result<Program> {
    // A log for a person to read after a failure.
    Ok(Program::new(name, binary(name)?).env("RUST_BACKTRACE", "1"))
}

/// Where it is: in the folder that `KRYPTON_PROGRAMS` names, if it is there; else `target/<profile>/<name>` beside
/// `krypton-testbed`, for tests in `target/<profile>/deps`.
///
/// # Errors
/// When it was not built.
pub fn binary(name: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(PROGRAMS).map(PathBuf::from) {
        ensure!(folder.is_dir(), "{PROGRAMS}={}: there is no such folder", folder.display());
        let given = folder.join(name);
        if given.is_file() {
            return Ok(given);
        }
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().map_or_else(PathBuf::new, Path::to_owned);
    let folder = if folder.ends_with("deps") { folder.join("..") } else { folder };
    let path = folder.join(name);
    ensure!(
        path.is_file(),
        "{} does not exist: `make test` builds it, or `cargo build --workspace --bins`",
        path.display()
    );
    Ok(path)
}

async fn listening(process: &mut Running, listener: &str) -> Result<SocketAddr> {
    let log = process.log();
    let what = format!("it prints `listening {listener}<address>`");
    let address = process.until(&what, START_DEADLINE, async || {
        parse_listening(&log.read()?, listener).context("no such line")
    });
    address.await
}

/// `listener`: what stands between `listening ` and the address.
fn parse_listening(output: &str, listener: &str) -> Option<SocketAddr> {
    // A line without its end may be half written: the address may go on.
    let whole = &output[..output.rfind('\n').map_or(0, |end| end + 1)];
    let mut addresses =
        whole.lines().filter_map(|line| line.strip_prefix("listening ")?.strip_prefix(listener));
    addresses.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_address_of_the_named_listener() {
        let output = "some log\nlistening http=127.0.0.1:80\nlistening admin=[::1]:81\n";
        assert_eq!(parse_listening(output, "http="), Some("127.0.0.1:80".parse().unwrap()));
        assert_eq!(parse_listening(output, "admin="), Some("[::1]:81".parse().unwrap()));
        assert_eq!(parse_listening(output, "discovery="), None);
        assert_eq!(
            parse_listening("listening on 127.0.0.1:82\n", "on "),
            Some("127.0.0.1:82".parse().unwrap())
        );
    }

    #[test]
    fn does_not_trust_a_line_that_is_not_finished() {
        assert_eq!(parse_listening("listening http=127.0.0.1:80", "http="), None);
    }
}
