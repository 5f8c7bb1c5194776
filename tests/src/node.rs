//! A node that runs real pods: containerd, kubelet, kube-proxy and kube-scheduler, with a control plane of their own.
//!
//! Owns: their flags, the order in which they start, and their end. The node is a machine of its own ([`machine`]), so
//! that it touches nothing of this one and goes as a whole. Never pulls an image: pods run those of [`images`] and, where
//! asked for, of [`krypton`].
//!
//! Flow: the machine; then at the same time the control plane, which listens at this machine's end of the cable, and
//! containerd with the images; then CoreDNS, kubelet, kube-proxy and kube-scheduler, until the node is ready.
//!
//! Pods and ClusterIPs are reached from this machine as from a node of the cluster. Pods find Services by name and the
//! API server as in any cluster; no name outside of the cluster exists for them.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::Instant;

use crate::binaries::{Kubernetes, NodePrograms};
use crate::certificates::{CA, write};
use crate::client;
use crate::cluster::Cluster;
use crate::control_plane::{ControlPlane, KUBECONFIG};
use crate::node::config::{NODE, Paths};
use crate::node::machine::Machine;
use crate::process::{Lifetime, Program, Running};
use crate::programs;
use crate::state::RunDir;

pub(crate) mod cgroup;
pub mod config;
pub mod images;
pub mod krypton;
mod machine;
pub(crate) mod network;

/// One to two seconds on an idle machine.
const START_DEADLINE: Duration = Duration::from_mins(2);

/// What Debian's packages bring beside the Kubernetes programs, and what they are called.
const TOOLS: [(&str, &str); 5] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("buildah", "buildah"),
];

/// Where the CNI plugins may be: Debian's place, upstream's, Fedora's.
const PLUGINS: [&str; 3] = ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"];
const PLUGINS_PACKAGE: &str = "containernetworking-plugins";

/// A node with its control plane; dropping it ends all of both.
#[derive(Debug)]
pub struct Node {
    // The order is the order in which they end.
    kubelet: Running,
    proxy: Running,
    dns: Running,
    containerd: Running,
    machine: Machine,
    scheduler: Running,
    control_plane: ControlPlane,
    /// containerd's.
    socket: PathBuf,
    /// `None` when the folder is somebody else's to delete.
    folder: Option<TempDir>,
}

/// What a start needs.
struct Setup<'a> {
    folder: &'a Path,
    run: &'a RunDir,
    lifetime: Lifetime,
    machine: Machine,
    paths: Paths,
}

// === impl Node ===

impl Node {
    /// One of the caller's own, ended when dropped: for a test that needs an empty cluster.
    ///
    /// # Errors
    /// As [`Node::start_in`].
    pub async fn start() -> Result<Self> {
        let run = RunDir::of_this_process()?;
        let folder = tempfile::Builder::new().prefix("n-").tempdir_in(run.path())?;
        let programs = (Kubernetes::find()?, NodePrograms::find()?);
        let node = Box::pin(Self::start_in(folder.path(), run, programs, Lifetime::Tied)).await?;
        Ok(Self { folder: Some(folder), ..node })
    }

    /// Starts one with its files in `folder`, which exists and is short (sockets live in it), its logs in `run`. Tells
    /// on standard error how long it took.
    ///
    /// # Errors
    /// Without root or a tool; when a program ends or does not become ready, with the end of its log.
    pub async fn start_in(
        folder: &Path,
        run: &RunDir,
        (kubernetes, programs): (Kubernetes, NodePrograms),
        lifetime: Lifetime,
    ) -> Result<Self> {
        let began = Instant::now();
        eprintln!("Starting a Kubernetes node …");
        let setup = Setup::create(folder, run, lifetime).await?;
        let network = setup.machine.network();
        let (control_plane, containerd) = tokio::try_join!(
            timed(ControlPlane::start_for_node(folder, run, kubernetes, lifetime, network)),
            timed(setup.start_containerd()),
        )?;
        let ((control_plane, control_plane_took), (containerd, images_took)) = (control_plane, containerd);
        let scheduler = setup.start_scheduler(&programs.scheduler)?;
        let mut kubelet = setup.start_kubelet(&programs.kubelet)?;
        let proxy = setup.start_proxy(&programs.proxy)?;
        let mut dns = setup.start_dns(&programs.dns)?;
        let nodes: Api<core::Node> = Api::all(control_plane.cluster().await?.client());
        let ready = async || ensure_ready(&nodes.get(NODE).await?);
        kubelet.until("the node is ready", START_DEADLINE, ready).await?;
        let ready_at = SocketAddr::from((network.node(), config::DNS_READY_PORT));
        dns.until("CoreDNS knows the cluster", START_DEADLINE, async || {
            let answer = client::get(ready_at, "/ready").await?;
            ensure!(answer.status == 200, "{}", answer.text());
            Ok(())
        })
        .await?;
        eprintln!(
            "Node {NODE} is ready after {:.1?} (control plane {control_plane_took:.1?}, images {images_took:.1?})",
            began.elapsed()
        );
        let Setup { machine, paths, .. } = setup;
        let socket = paths.socket;
        Ok(Self { kubelet, proxy, dns, containerd, machine, scheduler, control_plane, socket, folder: None })
    }

    /// Gives it the images of Krypton itself, under the names in [`krypton`].
    ///
    /// # Errors
    /// When they cannot be built; with what buildah said.
    pub async fn load_krypton(&self) -> Result<()> {
        for archive in krypton::archives().await? {
            import(&self.socket, &archive).await?;
        }
        for program in krypton::PROGRAMS {
            let next = format!("{}/{program}:{}", krypton::REGISTRY, krypton::NEXT_TAG);
            let tag = ["--namespace", "k8s.io", "images", "tag", "--force", &krypton::image(program), &next];
            ctr(&self.socket, &tag).await?;
        }
        Ok(())
    }

    /// Whether this machine can start one.
    ///
    /// # Errors
    /// Says what is missing, and how it comes.
    pub async fn can_start() -> Result<()> {
        let missing = missing_packages(&std::env::var_os("PATH").unwrap_or_default(), plugins().is_some());
        ensure!(
            missing.is_empty(),
            "the tools of a node are not there: apt-get install -y --no-install-recommends {}",
            missing.join(" ")
        );
        NodePrograms::can_prepare()?;
        // Trying is the only sure answer: root in a container may lack a capability.
        let run = RunDir::of_this_process()?;
        let folder = tempfile::Builder::new().prefix("try-").tempdir_in(run.path())?;
        Machine::start(folder.path(), run, Lifetime::Tied).await.context("this machine cannot run a node")?;
        Ok(())
    }

    /// The way to its API.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read back.
    pub async fn cluster(&self) -> Result<Cluster> {
        self.control_plane.cluster().await
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> &Path {
        self.control_plane.kubeconfig()
    }

    /// Gives back the name of a program that ended by itself, if one did.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<&'static str>> {
        if self.machine.ended()? {
            return Ok(Some("the node's machine"));
        }
        let programs = [
            ("containerd", &mut self.containerd),
            ("kubelet", &mut self.kubelet),
            ("kube-proxy", &mut self.proxy),
            ("coredns", &mut self.dns),
            ("kube-scheduler", &mut self.scheduler),
        ];
        for (name, program) in programs {
            if program.exit_status()?.is_some() {
                return Ok(Some(name));
            }
        }
        self.control_plane.ended()
    }

    /// Lets it run on after this process.
    pub fn leave_running(self) {
        for program in [self.kubelet, self.proxy, self.dns, self.containerd, self.scheduler] {
            program.leave_running();
        }
        self.machine.leave_running();
        self.control_plane.leave_running();
        self.folder.map(TempDir::keep);
    }
}

// === impl Setup ===

impl<'a> Setup<'a> {
    async fn create(folder: &'a Path, run: &'a RunDir, lifetime: Lifetime) -> Result<Self> {
        let plugins = plugins().with_context(|| format!("no CNI plugins in {}", PLUGINS.join(", ")))?;
        let paths = Paths {
            socket: folder.join("containerd.sock"),
            data: folder.join("machine"),
            networks: folder.join("networks"),
            plugins: plugins.into(),
            kubeconfig: folder.join(KUBECONFIG),
            ca: folder.join(CA),
        };
        fs::create_dir_all(&paths.data)?;
        fs::create_dir_all(&paths.networks)?;
        let machine = Machine::start(&paths.data, run, lifetime).await?;
        Ok(Self { folder, run, lifetime, machine, paths })
    }

    /// Starts it and gives it the images.
    async fn start_containerd(&self) -> Result<Running> {
        let network = config::network(&self.paths, self.machine.network()).to_string();
        write(&self.paths.networks, "krypton.conflist", &network)?;
        let config = write(self.folder, "containerd.toml", &config::containerd(&self.paths))?;
        let containerd = self.machine.program("containerd", "containerd").arg("--config").arg(config);
        let mut containerd = containerd.start(self.run)?;

        let scratch = tempfile::Builder::new().prefix("images-").tempdir_in(self.run.path())?;
        let archive = images::build(scratch.path(), &programs::binary("krypton-example-agent")?).await?;
        let ready = async || ctr(&self.paths.socket, &["version"]).await;
        containerd.until("containerd answers", START_DEADLINE, ready).await?;
        import(&self.paths.socket, &archive).await?;
        Ok(containerd)
    }

    fn start_scheduler(&self, path: &Path) -> Result<Running> {
        let program = Program::new("kube-scheduler", path)
            .arg(format!("--kubeconfig={}", self.paths.kubeconfig.display()))
            .args(["--leader-elect=false", "--secure-port=0"]);
        program.lifetime(self.lifetime).start(self.run)
    }

    fn start_kubelet(&self, path: &Path) -> Result<Running> {
        let config = config::kubelet(&self.paths, self.machine.network(), &self.machine.cgroup());
        let config = write(self.folder, "kubelet.json", &config.to_string())?;
        let args = [
            format!("--kubeconfig={}", self.paths.kubeconfig.display()),
            format!("--config={}", config.display()),
            format!("--root-dir={}", self.paths.data.join("kubelet").display()),
            format!("--cert-dir={}", self.paths.data.join("certificates").display()),
            format!("--hostname-override={NODE}"),
            format!("--node-ip={}", self.machine.network().node()),
        ];
        self.machine.program("kubelet", path).args(args).start(self.run)
    }

    fn start_proxy(&self, path: &Path) -> Result<Running> {
        let config = config::proxy(&self.paths, self.machine.network());
        let config = write(self.folder, "kube-proxy.json", &config.to_string())?;
        self.machine.program("kube-proxy", path).arg("--config").arg(config).start(self.run)
    }

    fn start_dns(&self, path: &Path) -> Result<Running> {
        let config = config::dns(&self.paths, self.machine.network());
        let config = write(self.folder, "Corefile", &config)?;
        self.machine.program("coredns", path).arg("-conf").arg(config).start(self.run)
    }
}

/// Gives images to the containerd at `socket`.
async fn import(socket: &Path, archive: &Path) -> Result<()> {
    let archive = archive.to_str().context("a path that is not UTF-8")?;
    ctr(socket, &["--namespace", "k8s.io", "images", "import", archive]).await
}

async fn ctr(socket: &Path, args: &[&str]) -> Result<()> {
    let mut ctr = Command::new("ctr");
    let ctr = ctr.arg("--address").arg(socket).args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = ctr.output().await.context("cannot run ctr")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ctr {}: {said}", args.join(" "));
    Ok(())
}

fn ensure_ready(node: &core::Node) -> Result<()> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    let ready = ready.next().context("kubelet has not reported yet")?;
    ensure!(ready.status == "True", "{}", ready.message.as_deref().unwrap_or("no message"));
    // The node lifecycle controller takes it off a moment later, and until then no pod comes here.
    let tainted = node.spec.iter().any(|spec| spec.taints.iter().flatten().count() > 0);
    ensure!(!tainted, "it is tainted");
    Ok(())
}

async fn timed<T>(start: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let began = Instant::now();
    Ok((start.await?, began.elapsed()))
}

fn plugins() -> Option<&'static str> {
    PLUGINS.into_iter().find(|folder| Path::new(folder).join("bridge").is_file())
}

/// The packages of what is not in `path`, a list as in `PATH`; `plugins` says whether there are CNI plugins.
fn missing_packages(path: &OsStr, plugins: bool) -> Vec<&'static str> {
    let there = |program: &str| std::env::split_paths(path).any(|folder| folder.join(program).is_file());
    let missing = TOOLS.into_iter().filter(|(program, _)| !there(program));
    let mut packages: Vec<&str> = missing.map(|(_, package)| package).collect();
    packages.dedup();
    packages.extend((!plugins).then_some(PLUGINS_PACKAGE));
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_missing_package_is_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().as_os_str();
        let all = ["containerd", "runc", "iptables", "buildah", "containernetworking-plugins"];
        assert_eq!(missing_packages(path, false), all);
        for (program, _) in TOOLS {
            fs::write(folder.path().join(program), "").unwrap();
        }
        assert_eq!(missing_packages(path, true), Vec::<&str>::new());
    }
}
