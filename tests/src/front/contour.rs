//! Contour, an ingress controller for both `Ingress` and `HTTPRoute`, and the Envoy that it drives.
//!
//! Owns: the kinds it needs in a cluster, its configuration, both processes and their end. It watches one namespace, with
//! one Gateway there, and others where told to. It needs an address of its own (of a [`crate::bridge`]): all of its ports
//! are the usual ones.
//!
//! Flow: [`install_kinds`] once; [`Contour::start`] makes the Gateway and starts `contour serve`; `contour bootstrap`
//! writes Envoy's start file; Envoy gets all else from Contour (xDS, without TLS: both are on this machine). Clients are
//! taken once there is a first route.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use super::{envoy, fill, text};
use crate::authority::{Authority, Validity};
use crate::cluster::{Cluster, Namespace};
use crate::process::{Program, Running};
use crate::state::RunDir;
use crate::tools::CONTOUR;

/// Of the classes, which all tests share, and of the Gateway in each namespace. It is the IngressClass that Contour serves
/// unless told otherwise.
pub const NAME: &str = "contour";

const CONFIG: &str = include_str!("contour.yaml");
const CLASS: &str = include_str!("contour-class.yaml");
const GATEWAY: &str = include_str!("contour-gateway.yaml");

/// Contour lets Envoy listen at the Gateway's port (80) and 8000, so that it needs no root.
const PORT: u16 = 8080;
const XDS_PORT: &str = "8001";

/// Where Envoy listens before there is any route.
const STATS_PORT: u16 = 8002;

/// Two to three seconds on an idle machine; this is for one that is busy with other tests.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// Both processes; dropping it ends them.
#[derive(Debug)]
pub struct Contour {
    // The order is the order in which they end.
    proxy: Running,
    server: Running,
    /// Where clients call.
    pub address: SocketAddr,
    _folder: TempDir,
}

/// Makes the cluster know Contour's and Gateway API's kinds, and its classes. May be called by each test.
///
/// # Errors
/// When Contour was not prepared, or the API server refuses them.
pub async fn install_kinds(cluster: &Cluster) -> Result<()> {
    let folder = CONTOUR.folder()?;
    let (contour, gateway_api) = (text(&folder.join("contour.yaml"))?, text(&folder.join("gateway-api"))?);
    for source in [["--filename", &contour], ["--kustomize", &gateway_api]] {
        cluster.kubectl(&[&["apply", "--server-side"], &source[..]].concat(), "").await?;
    }
    // All there are: `kubectl wait` takes no kustomization.
    let wait = ["wait", "--for=condition=Established", "--timeout=60s", "--all", "customresourcedefinitions"];
    cluster.kubectl(&wait, "").await?;
    cluster.kubectl(&["apply", "--server-side", "--filename", "-"], CLASS).await?;
    Ok(())
}

// === impl Contour ===

impl Contour {
    /// Starts both for the Ingresses and HTTPRoutes of the namespace, at an address that nobody else uses. A stream may
    /// be silent for `stream_idle_timeout`, which an owner sets for all of them (5 minutes by default).
    ///
    /// # Errors
    /// When a program is not there or does not come to listen; with the end of its log.
    pub async fn start(namespace: &Namespace, ip: Ipv4Addr, stream_idle_timeout: Duration) -> Result<Self> {
        Self::start_for(namespace, &[], ip, stream_idle_timeout).await
    }

    /// The same, which also serves Ingresses and HTTPRoutes in `others`. Those need not exist yet.
    ///
    /// # Errors
    /// As [`Contour::start`].
    pub async fn start_for(
        namespace: &Namespace,
        others: &[&str],
        ip: Ipv4Addr,
        stream_idle_timeout: Duration,
    ) -> Result<Self> {
        let run = RunDir::of_this_process()?;
        // Envoy's admin socket lives in it, and the path of a socket may have 107 bytes.
        let folder = tempfile::Builder::new().prefix("c-").tempdir_in(run.path())?;
        let config = folder.path().join("contour.yaml");
        let idle = format!("{}ms", stream_idle_timeout.as_millis());
        let values = [("namespace", namespace.name()), ("name", NAME), ("stream_idle_timeout", &idle)];
        std::fs::write(&config, fill(CONFIG, &values)?)?;
        namespace.apply(&certificate(folder.path())?).await?;
        namespace.apply(GATEWAY).await?;

        let address = ip.to_string();
        let watched = [&[namespace.name()], others].concat().join(",");
        let contour = Program::new("contour", CONTOUR.find()?)
            .args(["serve", "--no-incluster", "--insecure", "--disable-leader-election"])
            .args(["--watch-namespaces", &watched])
            .args(["--xds-address", &address, "--xds-port", XDS_PORT])
            .args(["--http-address", &address, "--health-address", &address])
            .args(["--debug-http-address", &address, "--stats-address", &address])
            .args(["--envoy-service-http-address", &address, "--envoy-service-https-address", &address])
            .args(["--ingress-status-address", &address])
            .arg("--kubeconfig")
            .arg(namespace.cluster().kubeconfig())
            .arg("--config-path")
            .arg(config);
        let mut server = contour.start(run)?;
        let xds: SocketAddr = format!("{address}:{XDS_PORT}").parse()?;
        let xds_opens = async || Ok(TcpStream::connect(xds).await?);
        server.until("it serves xDS", START_DEADLINE, xds_opens).await?;

        let start_file = bootstrap(&folder, &address).await?;
        // Who it is to Contour.
        let identity = ["--service-cluster", NAME, "--service-node", namespace.name()];
        let envoy = envoy::program("contour-envoy")?.args(identity).args(["--config-path", &start_file]);
        let mut proxy = envoy.start(run)?;
        let stats = SocketAddr::from((ip, STATS_PORT));
        let listens = async || Ok(TcpStream::connect(stats).await?);
        proxy.until("it listens as Contour says", START_DEADLINE, listens).await?;
        Ok(Self { proxy, server, address: SocketAddr::from((ip, PORT)), _folder: folder })
    }

    /// Gives back the name of a program that ended by itself, if one did.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<&'static str>> {
        for (name, program) in [("contour", &mut self.server), ("envoy", &mut self.proxy)] {
            if program.exit_status()?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }
}

/// What the Gateway's second listener shows, as a Secret. Nobody calls it; but a Contour without one takes only the first
/// path of an Ingress.
fn certificate(folder: &Path) -> Result<String> {
    Authority::new()?.issue(folder, &["*.test"], Validity::Now)?;
    let read = |name: &str| std::fs::read_to_string(folder.join(name));
    let data = json!({ "tls.crt": read("tls.crt")?, "tls.key": read("tls.key")? });
    let metadata = json!({ "name": NAME });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "stringData": data,
    });
    Ok(secret.to_string())
}

/// Has Contour write the file that Envoy starts with; gives back its path.
async fn bootstrap(folder: &TempDir, address: &str) -> Result<String> {
    let path = text(&folder.path().join("envoy.json"))?;
    let output = Command::new(CONTOUR.find()?)
        .args(["bootstrap", &path, "--xds-address", address, "--xds-port", XDS_PORT])
        .arg("--admin-address")
        .arg(folder.path().join("admin.sock"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run contour")?;
    ensure!(output.status.success(), "contour bootstrap: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(path)
}
