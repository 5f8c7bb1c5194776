//! A real Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager.
//!
//! Owns: their flags, credentials, port and data, and their end. It never runs pods: what a kubelet would report, a test
//! writes itself ([`crate::cluster::Namespace::add_pod`]), and the real controllers turn it into endpoint slices. That
//! of a real node ([`crate::node`]) has no such made-up node, and listens where the node's programs reach it.
//!
//! Most tests share one per run ([`crate::cluster::shared`]). A test that stops the API server or compacts its history
//! starts its own by [`ControlPlane::start`].

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::audit::AuditLog;
use crate::binaries::Kubernetes;
use crate::certificates::{self, Credentials};
use crate::cluster::Cluster;
use crate::etcd::Etcd;
use crate::node::network::Network;
use crate::process::{Lifetime, Program, Running};
use crate::state::RunDir;

/// Services get their ClusterIP from here. Kubernetes hands out the first 256 addresses only where a Service asks for
/// one, so they are free for [`crate::bridge::Bridge::cluster_ip`]. Of 198.18.0.0/15 (RFC 2544), which no real network
/// uses.
const SERVICE_RANGE: &str = "198.19.0.0/16";

/// The administrator's kubeconfig, in the folder of a control plane.
pub(crate) const KUBECONFIG: &str = "kubeconfig";

/// Two to three seconds on an idle machine.
const START_DEADLINE: Duration = Duration::from_mins(2);

/// A control plane; dropping it ends all of it and deletes its data.
#[derive(Debug)]
pub struct ControlPlane {
    // The order is the order in which they end.
    manager: Running,
    /// `None` while a test has it stopped.
    apiserver: Option<Running>,
    etcd: Etcd,
    setup: Setup,
    /// `None` when the folder is somebody else's to delete.
    _folder: Option<TempDir>,
}

/// What a start and a restart need.
#[derive(Debug)]
struct Setup {
    kubernetes: Kubernetes,
    credentials: Credentials,
    tokens: PathBuf,
    /// `None` without a node.
    network: Option<Network>,
    port: ReservedPort,
    kubeconfig: PathBuf,
    /// Of this API server only.
    more_flags: Vec<String>,
    lifetime: Lifetime,
    run: RunDir,
}

/// A port that stays ours while the API server is stopped: this socket holds it without listening, and the
/// API server shares it (`--permit-port-sharing`).
#[derive(Debug)]
struct ReservedPort {
    address: SocketAddrV4,
    _socket: Socket,
}

// === impl ControlPlane ===

impl ControlPlane {
    /// One of the caller's own, ended when dropped.
    ///
    /// # Errors
    /// When a program is missing, ends or does not become ready; with the end of its log.
    pub async fn start() -> Result<Self> {
        let run = RunDir::of_this_process()?;
        let folder = tempfile::Builder::new().prefix("cp-").tempdir_in(run.path())?;
        let setup = Setup::create(folder.path(), run, Kubernetes::find()?, Lifetime::Tied, None)?;
        Self::launch(setup, folder.path().to_owned(), Some(folder)).await
    }

    /// The same with a record of the calls of one user, whom the second part describes. This one is strict about who
    /// may name an owner. `flags` are added to the API server's.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn start_audited(flags: &[&str]) -> Result<(Self, AuditLog)> {
        let run = RunDir::of_this_process()?;
        let folder = tempfile::Builder::new().prefix("cp-").tempdir_in(run.path())?;
        let mut setup = Setup::create(folder.path(), run, Kubernetes::find()?, Lifetime::Tied, None)?;
        let audit = AuditLog::create(folder.path(), &setup.tokens, &setup.kubeconfig)?;
        setup.more_flags = audit.flags();
        setup.more_flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        Ok((Self::launch(setup, folder.path().to_owned(), Some(folder)).await?, audit))
    }

    /// One with its data in `folder`, which exists and is short (etcd's sockets live in it), its logs in `run`.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn start_in(
        folder: &Path,
        run: &RunDir,
        kubernetes: Kubernetes,
        lifetime: Lifetime,
    ) -> Result<Self> {
        let setup = Setup::create(folder, run, kubernetes, lifetime, None)?;
        Self::launch(setup, folder.to_owned(), None).await
    }

    /// The same for a node on `network`, which exists.
    pub(crate) async fn start_for_node(
        folder: &Path,
        run: &RunDir,
        kubernetes: Kubernetes,
        lifetime: Lifetime,
        network: Network,
    ) -> Result<Self> {
        let setup = Setup::create(folder, run, kubernetes, lifetime, Some(network))?;
        Self::launch(setup, folder.to_owned(), None).await
    }

    async fn launch(setup: Setup, data: PathBuf, folder: Option<TempDir>) -> Result<Self> {
        let etcd = Etcd::start(&setup.kubernetes.etcd, &data, setup.lifetime, &setup.run).await?;
        let apiserver = setup.start_apiserver(&etcd).await?;
        let manager = setup.start_manager().await?;
        Ok(Self { manager, apiserver: Some(apiserver), etcd, setup, _folder: folder })
    }

    /// The way to its API.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read back.
    pub async fn cluster(&self) -> Result<Cluster> {
        Cluster::connect(self.kubeconfig()).await
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.setup.kubeconfig
    }

    /// Ends the API server at once, as a crash of its machine would; etcd keeps the data.
    pub fn stop_apiserver(&mut self) {
        self.apiserver = None;
    }

    /// Starts the API server again, at the same address, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or does not become ready.
    pub async fn start_apiserver(&mut self) -> Result<()> {
        if self.apiserver.is_none() {
            self.apiserver = Some(self.setup.start_apiserver(&self.etcd).await?);
        }
        Ok(())
    }

    /// Makes etcd forget all revisions before now. Watches that want to go on from an older one get 410 Gone, also
    /// after a restart of the API server.
    ///
    /// # Errors
    /// When etcd refuses.
    pub async fn compact_etcd(&self) -> Result<()> {
        self.etcd.compact().await
    }

    /// Gives back the name of a program that ended by itself, if one did.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<&'static str>> {
        if self.etcd.exit_status()?.is_some() {
            return Ok(Some("etcd"));
        }
        if self.manager.exit_status()?.is_some() {
            return Ok(Some("kube-controller-manager"));
        }
        let apiserver = self.apiserver.as_mut().map(Running::exit_status).transpose()?.flatten();
        Ok(apiserver.map(|_| "kube-apiserver"))
    }

    /// Lets it run on after this process.
    pub fn leave_running(self) {
        self.manager.leave_running();
        if let Some(apiserver) = self.apiserver {
            apiserver.leave_running();
        }
        self.etcd.leave_running();
    }
}

// === impl Setup ===

impl Setup {
    fn create(
        folder: &Path,
        run: &RunDir,
        kubernetes: Kubernetes,
        lifetime: Lifetime,
        network: Option<Network>,
    ) -> Result<Self> {
        let port = ReservedPort::new(network.map_or(Ipv4Addr::LOCALHOST, Network::host))?;
        let address = port.address.ip().to_string();
        let service = network.map(|network| network.api().to_string());
        let mut names =
            vec![&*address, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        names.extend(service.as_deref());
        let credentials = Credentials::create(folder, &names)?;
        // Every user of the machine reaches the port, so the token must not be guessed.
        let token = certificates::token()?;
        let tokens =
            certificates::write(folder, "tokens.csv", &format!("{token},admin,admin,system:masters\n"))?;
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "testbed",
            "clusters": [{ "name": "testbed", "cluster": {
                "server": format!("https://{}", port.address),
                "certificate-authority": credentials.ca,
            }}],
            "users": [{ "name": "admin", "user": { "token": token } }],
            "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": "admin" } }],
        });
        // YAML is a superset of JSON.
        let kubeconfig = certificates::write(folder, KUBECONFIG, &format!("{kubeconfig:#}\n"))?;
        Ok(Self {
            kubernetes,
            credentials,
            tokens,
            network,
            port,
            kubeconfig,
            more_flags: Vec::new(),
            lifetime,
            run: run.clone(),
        })
    }

    async fn start_apiserver(&self, etcd: &Etcd) -> Result<Running> {
        let credentials = &self.credentials;
        let services = self.network.map_or_else(|| SERVICE_RANGE.to_owned(), Network::services);
        // Pods find it by its Service. Without pods it listens at loopback, which no Service may lead to.
        let reconciler = if self.network.is_some() { "lease" } else { "none" };
        let args = [
            format!("--etcd-servers={}", etcd.url()),
            format!("--bind-address={}", self.port.address.ip()),
            format!("--secure-port={}", self.port.address.port()),
            "--permit-port-sharing".to_owned(),
            // Without this it looks for the address of a default route, which a machine without network lacks.
            format!("--advertise-address={}", self.port.address.ip()),
            format!("--endpoint-reconciler-type={reconciler}"),
            format!("--tls-cert-file={}", credentials.certificate.display()),
            format!("--tls-private-key-file={}", credentials.key.display()),
            format!("--service-account-key-file={}", credentials.token_public_key.display()),
            format!("--service-account-signing-key-file={}", credentials.token_key.display()),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--token-auth-file={}", self.tokens.display()),
            "--authorization-mode=Node,RBAC".to_owned(),
            format!("--service-cluster-ip-range={services}"),
            // For logs and `kubectl exec`; nobody resolves the name of a node.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--kubelet-client-certificate={}", credentials.kubelet_certificate.display()),
            format!("--kubelet-client-key={}", credentials.kubelet_key.display()),
        ];
        let program = Program::new("kube-apiserver", &self.kubernetes.apiserver);
        let mut process =
            program.args(args).args(&self.more_flags).lifetime(self.lifetime).start(&self.run)?;
        process
            .until("the API server is ready", START_DEADLINE, async || {
                Cluster::connect(&self.kubeconfig).await?.readyz().await
            })
            .await?;
        Ok(process)
    }

    async fn start_manager(&self) -> Result<Running> {
        let credentials = &self.credentials;
        let controllers = match self.network {
            Some(_) => "*",
            // It would see that the made-up node's kubelet never reports, and call its pods not ready.
            None => "*,-node-lifecycle-controller",
        };
        let args = [
            format!("--kubeconfig={}", self.kubeconfig.display()),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            format!("--service-account-private-key-file={}", credentials.token_key.display()),
            format!("--root-ca-file={}", credentials.ca.display()),
            "--use-service-account-credentials".to_owned(),
            format!("--controllers={controllers}"),
            // At its own pace of 20 calls a second the start alone takes five seconds longer.
            "--kube-api-qps=500".to_owned(),
            "--kube-api-burst=1000".to_owned(),
        ];
        let program = Program::new("kube-controller-manager", &self.kubernetes.controller_manager);
        let mut process = program.args(args).lifetime(self.lifetime).start(&self.run)?;
        let cluster = Cluster::connect(&self.kubeconfig).await?;
        if self.network.is_none() {
            cluster.create_node().await?;
        }
        process
            .until("the default service account exists", START_DEADLINE, async || {
                let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), "default");
                Ok(accounts.get("default").await?)
            })
            .await?;
        Ok(process)
    }
}

// === impl ReservedPort ===

impl ReservedPort {
    fn new(address: Ipv4Addr) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::from((address, 0)).into())?;
        let address = socket.local_addr()?.as_socket_ipv4().context("an IPv4 socket without an address")?;
        Ok(Self { address, _socket: socket })
    }
}
