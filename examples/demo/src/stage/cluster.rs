//! A stage on a real Kubernetes node, which the testbed has made for it: the controller and the gateway are processes
//! of this machine, agents run as pods.
//!
//! Owns: those two programs, and which cluster they are for. Never speaks to a cluster that is not the testbed's: a
//! person's KUBECONFIG may name a real one.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use tempfile::TempDir;

use super::Stage;
use super::ground::{ANY_PORT, Ground, logs_of};
use crate::kubectl::Kubectl;
use crate::process::{Processes, Program};
use crate::screen::Screen;
use crate::tour;

/// Names the kubeconfig of the testbed's node.
const KUBECONFIG: &str = "KRYPTON_TESTBED_NODE";

/// Names the kubectl that goes with it.
const KUBECTL: &str = "KRYPTON_TESTBED_KUBECTL";

/// The stage.
#[derive(Debug)]
pub(crate) struct ClusterStage {
    pub(crate) ground: Ground,
    pub(crate) kubectl: Kubectl,
    /// Where the controller tells gateways of routes; port 0 before the start.
    pub(crate) discovery: SocketAddr,
}

// === impl ClusterStage ===

impl ClusterStage {
    /// A stage on the testbed's node, empty.
    ///
    /// # Errors
    /// There is no such node; says how to bring it.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let named = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let kubeconfig = named(KUBECONFIG).with_context(|| {
            format!("{KUBECONFIG} is not set: `make demo-cluster` starts a node and the tour")
        })?;
        let kubectl = named(KUBECTL).unwrap_or_else(|| "kubectl".into());
        // The testbed's folder goes with the node, however this ends.
        let parent = kubeconfig.parent().context("a kubeconfig in a folder")?;
        let ground = Ground::new(parent)?;
        let cache = ground.folder().join("kubectl");
        let kubectl = Kubectl::new(kubectl, kubeconfig, cache);
        Ok(Self { ground, kubectl, discovery: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) })
    }

    /// Starts the controller and the gateway, and waits until calls are taken.
    ///
    /// # Errors
    /// One does not start.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let flags = ["--discovery-listen", ANY_PORT, "--admin-listen", ANY_PORT, "--log-format", "text"];
        let mut arguments: Vec<OsString> = flags.into_iter().map(OsString::from).collect();
        arguments.extend(["--kubeconfig".into(), self.kubectl.kubeconfig().into()]);
        let program = Program { file: "krypton-controller", arguments, listens: 2 };
        self.discovery = self.ground.processes.start("controller", program).await?[0];
        self.ground.start_gateway(self.discovery, &[]).await
    }
}

impl Stage for ClusterStage {
    async fn play(&mut self, screen: &Screen) -> anyhow::Result<()> {
        tour::cluster::play(self, screen).await
    }

    fn suggest(&self, screen: &Screen) -> anyhow::Result<()> {
        let (ground, kubectl) = (&self.ground, self.kubectl.program().display());
        let (folder, admin) = (ground.folder().display(), ground.gateway_admin);
        let unpin = r#"{"spec":{"replicas":null}}"#;
        for command in [
            format!("export KUBECONFIG={}", self.kubectl.kubeconfig().display()),
            format!("alias kubectl={kubectl}"),
            "kubectl get agents -o wide".to_owned(),
            "kubectl apply -f examples/".to_owned(),
            format!("curl {}", ground.url("echo-agent", "/hello")),
            format!("curl -N -d 'tell me something' {}", ground.url("a2a-agent", "/stream")),
            "kubectl describe agent a2a-agent".to_owned(),
            "kubectl logs deployment/a2a-agent".to_owned(),
            "kubectl scale agent/mcp-agent --replicas=2".to_owned(),
            format!("kubectl patch agent mcp-agent --type=merge -p '{unpin}'"),
            "kubectl explain agent.spec".to_owned(),
            format!("curl http://{admin}/debug/routes"),
        ] {
            screen.command(command)?;
        }
        screen.say(format_args!("MCP clients: {}", ground.url("mcp-agent", "")))?;
        screen.say(format_args!("logs:        {folder}/logs"))?;
        Ok(())
    }

    fn processes(&mut self) -> &mut Processes {
        &mut self.ground.processes
    }

    async fn end(self) -> TempDir {
        self.ground.end().await
    }

    /// The testbed takes its folder away, so they are moved out of it.
    fn keep_logs(folder: TempDir) -> PathBuf {
        let logs = logs_of(folder.path());
        let kept =
            tempfile::Builder::new().prefix("krypton-demo-").tempdir().map(|kept| logs_of(&kept.keep()));
        match kept {
            Ok(kept) if std::fs::rename(&logs, &kept).is_ok() => kept,
            // No more than a pity, and the failure that is told is another.
            _ => logs,
        }
    }
}
