//! Krypton's own gateway, as it is released, with a controller that reads a folder of manifests.

use std::path::Path;

use anyhow::ensure;
use http::Method;
use krypton_e2e::client;

use super::start::{OnPath, START_DEADLINE, Start, listening};
use super::{Peer, StartError, manifests};
use crate::procfs;
use crate::programs::{CONTROLLER, GATEWAY, Programs};

/// Any free port.
const ANY: &str = "127.0.0.1:0";

pub(super) async fn start(mut start: Start<'_>) -> Result<Peer, StartError> {
    let setup = start.setup;
    if let Some(missing) = setup.programs.missing() {
        let how_to_get = format!("cargo build --release -p {GATEWAY} -p {CONTROLLER}");
        return Err(StartError::Missing { what: missing.display().to_string(), how_to_get });
    }
    let Programs { gateway, controller } = setup.programs.clone();
    start.version(&gateway, "--version").await?;
    let folder = start.path("manifests")?;
    manifests::write_all(Path::new(&folder), setup.agents, &setup.origins)?;

    // It carries no call, so it is not on the gateway's cores where there are others.
    let allowed = procfs::allowed_cores().map_err(anyhow::Error::from)?;
    let others: Vec<_> = allowed.into_iter().filter(|core| !setup.cores.contains(core)).collect();
    let args = ["--manifests", &folder, "--discovery-listen", ANY, "--admin-listen", ANY];
    let controller = start.run((CONTROLLER, &controller, &args), &[], &others, OnPath::No)?;
    let discovery = format!("http://{}", listening(controller, "discovery", 0).await?);

    let (threads, clients) = (setup.threads.to_string(), start.clients().to_string());
    let log = setup.access_log.to_string();
    let flags = ["--allow-loopback-endpoints", "--threads", &threads, "--access-log", &log];
    let limits = ["--max-connections", &clients];
    let addresses = ["--listen", ANY, "--admin-listen", ANY, "--discovery", &discovery];
    let args = [&addresses[..], &flags, &limits].concat();
    let gateway = start.run((GATEWAY, &gateway, &args), &[], &setup.cores, OnPath::Yes)?;
    let address = listening(gateway, "http", 0).await?;
    let admin = listening(gateway, "admin", 0).await?;
    let ready = async || {
        let ready = client::request(Method::GET, admin, "/readyz").body(client::full(""))?;
        let answer = client::send(&client::keeping_client(), ready).await?;
        ensure!(answer.status == 200, "{}", answer.text());
        Ok(())
    };
    gateway.until("it is ready", START_DEADLINE, ready).await?;
    let mut peer = start.finish(address, None);
    peer.manifests = Some(folder.into());
    Ok(peer)
}
