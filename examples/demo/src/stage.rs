//! What the tour plays on: a temporary folder, and the programs that run in it.
//!
//! ```text
//! <folder>/manifests/     the controller's, a working copy of examples/local/
//! <folder>/logs/          one file a program
//! <folder>/routes         the gateway's last routes
//! ```
//!
//! Flow: [`Stage::new`] makes the folder; [`Stage::start`] starts everything on free ports; [`Stage::end`] ends
//! everything and gives the folder back, to be kept or removed.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::manifest::{ECHO_ENDPOINTS, Folder, Manifest, TOOLS, WRITER};
use crate::process::{Processes, Program};
use crate::wait::until;

/// The writer's manifest in the folder.
pub(crate) const WRITER_FILE: &str = "writer.yaml";

/// Where a port is looked for that has to be free for the whole tour: below the ports that systems hand out by
/// themselves (32768 and above on Linux, 49152 on macOS), so that no connection takes it meanwhile.
const LASTING_PORTS: std::ops::Range<u16> = 20_000..30_000;

/// The stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) processes: Processes,
    pub(crate) manifests: Folder,
    pub(crate) client: Client,
    /// Where things listen; all zero before the start.
    pub(crate) ports: Ports,
    pub(crate) writer: Manifest,
    folder: TempDir,
}

/// Where things listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) gateway: SocketAddr,
    pub(crate) gateway_admin: SocketAddr,
    /// The controller's, the same after its restart.
    pub(crate) discovery: SocketAddr,
    pub(crate) controller_admin: SocketAddr,
    pub(crate) writers: [SocketAddr; 2],
    pub(crate) tools: SocketAddr,
}

// === impl Stage ===

impl Stage {
    /// An empty stage.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("krypton-demo-").tempdir().context("a temporary folder")?;
        let logs = folder.path().join("logs");
        std::fs::create_dir(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let ports = Ports {
            gateway: nowhere,
            gateway_admin: nowhere,
            discovery: nowhere,
            controller_admin: nowhere,
            writers: [nowhere; 2],
            tools: nowhere,
        };
        Ok(Self {
            processes: Processes::new(logs)?,
            manifests: Folder::new(folder.path().join("manifests"))?,
            client: Client::new(),
            ports,
            writer: Manifest::new(WRITER),
            folder,
        })
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
        self.start_gateway().await
    }

    /// Starts an agent's instance; gives its address.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn start_agent(&mut self, name: &str) -> anyhow::Result<SocketAddr> {
        let arguments = ["--listen", "127.0.0.1:0", "--name", name];
        let program = Program {
            file: "krypton-example-agent",
            arguments: arguments.into_iter().map(OsString::from).collect(),
            listens: 1,
        };
        let addresses = self.processes.start(name, program).await?;
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
        let mut arguments: Vec<OsString> = ["--admin-listen", "127.0.0.1:0", "--log-format", "text"]
            .into_iter()
            .map(OsString::from)
            .collect();
        arguments.extend(["--manifests".into(), self.manifests.path().into()]);
        arguments.extend(["--discovery-listen".into(), self.ports.discovery.to_string().into()]);
        let program = Program { file: "krypton-controller", arguments, listens: 2 };
        let addresses = self.processes.start("controller", program).await?;
        ensure!(addresses[0] == self.ports.discovery, "the controller listens at {}", addresses[0]);
        self.ports.controller_admin = addresses[1];
        Ok(())
    }

    async fn start_gateway(&mut self) -> anyhow::Result<()> {
        let mut arguments: Vec<OsString> = [
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--allow-loopback-endpoints",
            "--log-format",
            "text",
        ]
        .into_iter()
        .map(OsString::from)
        .collect();
        arguments.extend(["--discovery".into(), format!("http://{}", self.ports.discovery).into()]);
        arguments.extend(["--snapshot-file".into(), self.folder.path().join("routes").into()]);
        let program = Program { file: "krypton-gateway", arguments, listens: 2 };
        let addresses = self.processes.start("gateway", program).await?;
        (self.ports.gateway, self.ports.gateway_admin) = (addresses[0], addresses[1]);

        let readyz = format!("http://{}/readyz?verbose", self.ports.gateway_admin);
        until("the gateway getting ready", async || {
            let answer = self.client.get(&readyz).await?;
            ensure!(answer.status == 200, "{}", answer.text());
            Ok(())
        })
        .await
    }

    /// Waits until the gateway knows these pods of an agent and no others.
    ///
    /// # Errors
    /// It does not come to know them in time.
    pub(crate) async fn pods_known(&self, agent: &str, pods: &[&str]) -> anyhow::Result<()> {
        let url = format!("http://{}/debug/routes", self.ports.gateway_admin);
        let agent = format!("default/{agent}");
        until("the gateway knowing the pods", async || {
            let table = self.client.get(&url).await?.json()?;
            let known = pods_of(&table, &agent);
            ensure!(known == pods, "it knows {known:?}");
            Ok(())
        })
        .await
    }

    /// The URL of an agent, with `rest` after its name.
    pub(crate) fn url(&self, agent: &str, rest: &str) -> String {
        format!("http://{}/v1/agents/default/{agent}{rest}", self.ports.gateway)
    }

    /// Where everything is kept.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Ends all programs at once, and gives the folder, which is removed when dropped.
    pub(crate) async fn end(mut self) -> TempDir {
        self.processes.kill_all().await;
        self.folder
    }
}

/// The uids of an agent's pods in what the gateway shows of its route table, sorted.
fn pods_of<'a>(table: &'a Value, agent: &str) -> Vec<&'a str> {
    let list = |value: &'a Value, field: &str| value[field].as_array().map_or(&[][..], Vec::as_slice);
    let route = list(table, "routes").iter().find(|route| route["name"] == agent);
    let endpoints = route.map_or(&[][..], |route| list(route, "endpoints"));
    let mut pods: Vec<&str> = endpoints.iter().filter_map(|endpoint| endpoint["podUid"].as_str()).collect();
    pods.sort_unstable();
    pods
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
    use serde_json::json;

    use super::*;

    #[test]
    fn the_pods_of_one_agent_are_told_from_others() {
        let route = |name: &str, pods: &[&str]| {
            let endpoints: Vec<Value> = pods.iter().map(|pod| json!({ "podUid": pod })).collect();
            json!({ "name": name, "endpoints": endpoints })
        };
        let table = json!({ "routes": [route("default/a", &["2", "1"]), route("default/b", &["3"])] });
        assert_eq!(pods_of(&table, "default/a"), ["1", "2"]);
        assert!(pods_of(&table, "default/c").is_empty() && pods_of(&Value::Null, "default/a").is_empty());
    }

    #[test]
    fn a_lasting_port_is_free_and_not_one_that_connections_are_given() {
        let address = lasting_port().unwrap();
        assert!(LASTING_PORTS.contains(&address.port()));
        let _taken = TcpListener::bind(address).unwrap();
        assert_ne!(lasting_port().unwrap(), address);
    }
}
