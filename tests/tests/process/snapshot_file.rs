//! The table on disk: what a gateway starts from while no controller answers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use krypton_e2e::programs::{ExampleAgent, Gateway};
use krypton_e2e::wait::eventually;
use tempfile::TempDir;

use crate::support::manifest::Manifests;
use crate::support::{
    Krypton, SOON, agent, closed_port, freshness_becomes, gateway_of, is_ready, logged, metric_becomes,
    status_becomes,
};
use krypton_e2e::client::get;

/// A gateway's file with the agent `echo`, written by a gateway.
struct Written {
    krypton: Krypton,
    _echo: ExampleAgent,
    folder: TempDir,
}

impl Written {
    async fn new() -> Self {
        let (echo, folder) = (agent("first").await, TempDir::new().unwrap());
        let path = folder.path().join("table");
        let args = ["--snapshot-file", path.to_str().unwrap()];
        let krypton = Krypton::start_with(Manifests::with_echo(&[echo.http]), &args).await;
        eventually("the file is written", SOON, async || fs::read(&path).context("not yet")).await.unwrap();
        Self { krypton, _echo: echo, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("table")
    }
}

async fn start_with(discovery: std::net::SocketAddr, file: &Path) -> Gateway {
    gateway_of(discovery, &["--snapshot-file", file.to_str().unwrap()]).await
}

#[tokio::test]
async fn a_gateway_starts_from_it_while_the_controller_is_dead() {
    let mut written = Written::new().await;
    let path = written.path();
    written.krypton.controller.process.kill();
    written.krypton.gateway.process.kill();

    let discovery = written.krypton.controller.discovery;
    let gateway = start_with(discovery, &path).await;
    is_ready(gateway.admin).await;
    freshness_becomes(&gateway, "fromDisk").await;
    let message = "Cannot reach the controller; serving the table from disk and trying again";
    logged(&gateway.process.log(), message).await;
    // Without a cluster there is no ClusterIP to go to instead.
    let answer = get(gateway.http, "/v1/agents/default/echo/").await.unwrap();
    assert_eq!((answer.status, answer.header("x-agent-name")), (200, "first"));

    // Once there is a controller again it has nothing to send.
    written.krypton.restart_controller().await;
    freshness_becomes(&gateway, "live").await;
    metric_becomes(written.krypton.controller.admin, "krypton_controller_upserts_total", 0.0).await;
}

#[tokio::test]
async fn it_is_the_gateways_own() {
    let written = Written::new().await;
    let mode = fs::metadata(written.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> =
        fs::read_dir(written.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["table"], "nothing stays beside it");
}

#[tokio::test]
async fn it_follows_the_table() {
    let written = Written::new().await;
    let before = fs::read(written.path()).unwrap();
    written.krypton.manifests.remove("echo.yaml");
    status_becomes(written.krypton.gateway.http, "/v1/agents/default/echo/", 404).await;
    eventually("the file changes", SOON, async || {
        anyhow::ensure!(fs::read(written.path())?.len() < before.len(), "not yet");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn one_that_cannot_be_trusted_is_refused_by_name_and_the_start_goes_on() {
    let written = Written::new().await;
    let good = fs::read(written.path()).unwrap();
    let (mut damaged, mut too_new) = (good.clone(), good.clone());
    damaged[good.len() / 2] ^= 1;
    too_new[8] = 200;
    let nowhere = closed_port().await;
    for (name, bytes, reason) in [
        ("damaged", &damaged[..], "checksum does not match"),
        ("truncated", &good[..good.len() - 7], "checksum does not match"),
        ("empty", b"", "not a route table of this program"),
        ("foreign", b"apiVersion: v1\nkind: ConfigMap\n", "not a route table of this program"),
        ("too-new", &too_new, "written in format 200, this release reads 1"),
    ] {
        let path = written.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let gateway = start_with(nowhere, &path).await;
        let warning = logged(&gateway.process.log(), "Snapshot file refused; starting without it").await;
        assert!(warning["error"].as_str().unwrap().contains(reason), "{name}: {warning}");
        assert_eq!((&warning["level"], &warning["path"]), (&"WARN".into(), &path.to_str().unwrap().into()));
        assert_eq!(get(gateway.admin, "/readyz").await.unwrap().status, 503, "{name}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name}: it stays for whoever looks into it");
    }
}

#[tokio::test]
async fn a_refused_one_is_replaced_once_there_is_a_table() {
    let written = Written::new().await;
    let good = fs::read(written.path()).unwrap();
    let path = written.folder.path().join("foreign");
    fs::write(&path, "foreign").unwrap();
    let gateway = start_with(written.krypton.controller.discovery, &path).await;
    is_ready(gateway.admin).await;
    eventually("the file is a table", SOON, async || {
        anyhow::ensure!(fs::read(&path)?.len() == good.len(), "not yet");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_costs_a_warning() {
    let folder = TempDir::new().unwrap();
    let echo = agent("first").await;
    // Not by its mode: root may write anywhere.
    let path = folder.path().join("missing").join("table");
    let args = ["--snapshot-file", path.to_str().unwrap()];
    let krypton = Krypton::start_with(Manifests::with_echo(&[echo.http]), &args).await;
    let message = "Cannot write the snapshot file; a restart without a controller would find an old table";
    let warning = logged(&krypton.gateway.process.log(), message).await;
    assert!(warning["error"].as_str().unwrap().contains("No such file"), "{warning}");
    assert_eq!(krypton.get("/v1/agents/default/echo/").await.status, 200);
}
