//! A stage without a cluster: the controller watches a folder of manifests, and agents are processes.
//!
//! ```text
//! <folder>/manifests/     the controller's, a working copy of examples/local/
//! ```
//!
//! Flow: [`LocalStage::new`] makes the folder; the start brings everything up on free ports.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::Stage;
use super::ground::{ANY_PORT, Ground};
use crate::manifest::{ECHO_ENDPOINTS, Folder, Manifest, TOOLS, WRITER};
use crate::process::{Processes, Program};
use crate::screen::Screen;
use crate::tour;
use crate::wait::until;

/// The writer's manifest in the folder.
pub(crate) const WRITER_FILE: &str = "writer.yaml";

/// Where a port is looked for that has to be free for the whole tour: below the ports that systems hand out by
/// themselves (32768 and above on Linux, 49152 on macOS), so that no connection takes it meanwhile.
const LASTING_PORTS: std::ops::Range<u16> = 20_000..30_000;

/// What streams an A2A answer.
const A2A_CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"message/stream","params":{"message":{"role":"user","messageId":"1","parts":[{"kind":"text","text":"hello"}]}}}"#;

/// The stage.
#[derive(Debug)]
pub(crate) struct LocalStage {
    pub(crate) ground: Ground,
    pub(crate) manifests: Folder,
    /// Where things listen; all zero before the start.
    pub(crate) ports: Ports,
    pub(crate) writer: Manifest,
}

/// Where things listen, beside the gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// The controller's, the same after its restart.
    pub(crate) discovery: SocketAddr,
    pub(crate) writers: [SocketAddr; 2],
    pub(crate) tools: SocketAddr,
}

// === impl LocalStage ===

impl LocalStage {
    /// An empty stage.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let ground = Ground::new(&std::env::temp_dir())?;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let ports = Ports { discovery: nowhere, writers: [nowhere; 2], tools: nowhere };
        let manifests = Folder::new(ground.folder().join("manifests"))?;
        Ok(Self { ground, manifests, ports, writer: Manifest::new(WRITER) })
    }

    /// Starts the agents, the controller and the gateway, and waits until the gateway is ready.
    ///
    /// # Errors
    /// Something does not start.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        for (n, name) in ["writer-1", "writer-2"].into_iter().enumerate() {
            self.ports.writers[n] = self.start_agent(name).await?;
            self.writer.set(name, "port", &self.ports.writers[n].port().to_string())?;
        }
        self.manifests.put(WRITER_FILE, &self.writer.text())?;
        self.ports.tools = self.start_agent("tools-1").await?;
        let mut tools = Manifest::new(TOOLS);
        tools.set("tools-1", "port", &self.ports.tools.port().to_string())?;
        self.manifests.put("tools.yaml", &tools.text())?;

        self.ports.discovery = lasting_port()?;
        self.start_controller().await?;
        self.ground.start_gateway(self.ports.discovery, &["--allow-loopback-endpoints"]).await
    }

    /// Starts an agent's instance; gives its address.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn start_agent(&mut self, name: &str) -> anyhow::Result<SocketAddr> {
        let arguments = ["--listen", ANY_PORT, "--name", name];
        let program = Program {
            file: "krypton-example-agent",
            arguments: arguments.into_iter().map(OsString::from).collect(),
            listens: 1,
        };
        let addresses = self.ground.processes.start(name, program).await?;
        addresses.first().copied().context("it listens")
    }

    /// Starts the pod of the agent that is to come.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn start_newcomer(&mut self) -> anyhow::Result<SocketAddr> {
        let address = self.start_agent("echo-agent-1").await?;
        let mut endpoints = Manifest::new(ECHO_ENDPOINTS);
        endpoints.set("echo-agent-1", "port", &address.port().to_string())?;
        self.manifests.put("echo-endpoints.yaml", &endpoints.text())?;
        Ok(address)
    }

    /// Starts the controller, at the same discovery port each time.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn start_controller(&mut self) -> anyhow::Result<()> {
        let mut arguments: Vec<OsString> =
            ["--admin-listen", ANY_PORT, "--log-format", "text"].into_iter().map(OsString::from).collect();
        arguments.extend(["--manifests".into(), self.manifests.path().into()]);
        arguments.extend(["--discovery-listen".into(), self.ports.discovery.to_string().into()]);
        let program = Program { file: "krypton-controller", arguments, listens: 2 };
        let addresses = self.ground.processes.start("controller", program).await?;
        ensure!(addresses[0] == self.ports.discovery, "the controller listens at {}", addresses[0]);
        Ok(())
    }

    /// Waits until the gateway knows these pods of an agent and no others.
    ///
    /// # Errors
    /// It does not come to know them in time.
    pub(crate) async fn pods_known(&self, agent: &str, pods: &[&str]) -> anyhow::Result<()> {
        until("the gateway knowing the pods", async || {
            let known = self.ground.known_pods(agent).await?;
            ensure!(known == pods, "it knows {known:?}");
            Ok(())
        })
        .await
    }
}

impl Stage for LocalStage {
    async fn play(&mut self, screen: &Screen) -> anyhow::Result<()> {
        tour::local::play(self, screen).await
    }

    fn suggest(&self, screen: &Screen) -> anyhow::Result<()> {
        let ground = &self.ground;
        let (folder, admin) = (ground.folder().display(), ground.gateway_admin);
        let streamed = ground.url("writer", "/stream");
        for command in [
            format!("curl {}", ground.url("echo-agent", "/hello")),
            format!("curl -N -d 'tell me something' {streamed}"),
            format!("curl {}", ground.url("writer", "/.well-known/agent-card.json")),
            format!("curl -N {} -d '{A2A_CALL}'", ground.url("writer", "")),
            format!("curl http://{admin}/metrics"),
            format!("curl http://{admin}/debug/routes"),
            format!("rm {folder}/manifests/echo-agent.yaml; curl {}", ground.url("echo-agent", "/hello")),
        ] {
            screen.command(command)?;
        }
        screen.say(format_args!("MCP clients: {}", ground.url("tools", "")))?;
        screen.say(format_args!("logs:        {folder}/logs"))?;
        Ok(())
    }

    fn processes(&mut self) -> &mut Processes {
        &mut self.ground.processes
    }

    async fn end(self) -> TempDir {
        self.ground.end().await
    }
}

/// A free port that nothing else is likely to take during the tour.
fn lasting_port() -> anyhow::Result<SocketAddr> {
    // Tours that run at once begin at different places.
    let ports = usize::from(LASTING_PORTS.end - LASTING_PORTS.start);
    let first = std::process::id() as usize % ports;
    LASTING_PORTS
        .cycle()
        .skip(first)
        .take(ports)
        .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .context("no free port between 20000 and 30000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_port_is_free_and_not_one_that_connections_are_given() {
        let address = lasting_port().unwrap();
        assert!(LASTING_PORTS.contains(&address.port()));
        let _taken = TcpListener::bind(address).unwrap();
        assert_ne!(lasting_port().unwrap(), address);
    }
}
