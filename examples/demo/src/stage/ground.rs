//! What every stage has: a temporary folder, programs that run in it, the gateway among them, and a caller.
//!
//! ```text
//! <folder>/logs/          one file a program
//! <folder>/routes         the gateway's last routes
//! ```

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::Client;
use crate::process::{Processes, Program};
use crate::wait::until;

/// What all agents of a tour are in; a cluster has it from the start.
pub(crate) const NAMESPACE: &str = "default";

/// Any free port.
pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

/// The ground of a stage.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) processes: Processes,
    pub(crate) client: Client,
    /// Where calls go; port 0 before the start.
    pub(crate) gateway: SocketAddr,
    /// Where the gateway's probes, metrics and routes are; port 0 before the start.
    pub(crate) gateway_admin: SocketAddr,
    folder: TempDir,
}

/// Where the logs are in the folder of a stage.
pub(crate) fn logs_of(folder: &Path) -> PathBuf {
    folder.join("logs")
}

// === impl Ground ===

impl Ground {
    /// Makes the folder, below `parent`.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn new(parent: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("krypton-demo-").tempdir_in(parent);
        let folder = folder.with_context(|| format!("a temporary folder in {}", parent.display()))?;
        let logs = logs_of(folder.path());
        std::fs::create_dir(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(Self {
            processes: Processes::new(logs)?,
            client: Client::new(),
            gateway: nowhere,
            gateway_admin: nowhere,
            folder,
        })
    }

    /// Starts the gateway of the controller at `discovery` and waits until it is ready; `flags` are added.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) async fn start_gateway(
        &mut self,
        discovery: SocketAddr,
        flags: &[&str],
    ) -> anyhow::Result<()> {
        let mut arguments: Vec<OsString> =
            ["--listen", ANY_PORT, "--admin-listen", ANY_PORT, "--log-format", "text"]
                .iter()
                .chain(flags)
                .map(OsString::from)
                .collect();
        arguments.extend(["--discovery".into(), format!("http://{discovery}").into()]);
        arguments.extend(["--snapshot-file".into(), self.folder.path().join("routes").into()]);
        let program = Program { file: "krypton-gateway", arguments, listens: 2 };
        let addresses = self.processes.start("gateway", program).await?;
        (self.gateway, self.gateway_admin) = (addresses[0], addresses[1]);

        let readyz = format!("http://{}/readyz?verbose", self.gateway_admin);
        until("the gateway getting ready", async || {
            let answer = self.client.get(&readyz).await?;
            ensure!(answer.status == 200, "{}", answer.text());
            Ok(())
        })
        .await
    }

    /// The pods of an agent that the gateway knows, by uid, sorted.
    ///
    /// # Errors
    /// The gateway does not tell.
    pub(crate) async fn known_pods(&self, agent: &str) -> anyhow::Result<Vec<String>> {
        let url = format!("http://{}/debug/routes", self.gateway_admin);
        let table = self.client.get(&url).await?.json()?;
        let pods = pods_of(&table, &format!("{NAMESPACE}/{agent}"));
        Ok(pods.into_iter().map(str::to_owned).collect())
    }

    /// The URL of an agent, with `rest` after its name.
    pub(crate) fn url(&self, agent: &str, rest: &str) -> String {
        format!("http://{}/v1/agents/{NAMESPACE}/{agent}{rest}", self.gateway)
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
}
