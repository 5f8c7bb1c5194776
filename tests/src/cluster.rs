//! What a test sees of a control plane: its API, a namespace of the test's own, and pods that it declares itself.
//!
//! Never talks to any other cluster: the shared one is found by [`TESTBED_ENV`], not by `KUBECONFIG`, which on a
//! person's machine may name a real one.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use http::Request;
use k8s_openapi::api::core::v1 as core;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::binaries::Kubernetes;
use crate::wait::eventually;

mod pods;

/// Names the kubeconfig of the control plane that the tests of a run share.
pub const TESTBED_ENV: &str = "KRYPTON_TESTBED";

/// Names the kubeconfig of the one that has a real node.
pub const TESTBED_NODE_ENV: &str = "KRYPTON_TESTBED_NODE";

/// Names the `kubectl` that goes with these control planes.
pub const KUBECTL_ENV: &str = "KRYPTON_TESTBED_KUBECTL";

/// The one node on record where there is no real one; no kubelet is behind it.
pub(crate) const NODE: &str = "testbed";

/// The controllers of Kubernetes react within milliseconds; this is for a machine that is busy with other tests.
const REACTION_DEADLINE: Duration = Duration::from_secs(30);

/// The API of a control plane, as its administrator.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    kubeconfig: PathBuf,
}

/// A namespace that one test has for itself.
pub struct Namespace {
    cluster: Cluster,
    name: String,
}

/// The control plane that all tests of this run share.
///
/// # Errors
/// When there is none: says how to run the test.
pub async fn shared() -> Result<Cluster> {
    let kubeconfig = std::env::var_os(TESTBED_ENV).with_context(|| {
        format!(
            "{TESTBED_ENV} is not set. Run the tests by `make test`, or one by \
             `cargo run -p krypton-e2e -- run -- cargo test -p krypton-e2e --features cluster NAME`, \
             or start a control plane by `make cluster` and do what it says"
        )
    })?;
    Cluster::connect(Path::new(&kubeconfig)).await
}

/// The control plane with a real node that all tests of this run share.
///
/// # Errors
/// As [`shared`].
pub async fn shared_with_node() -> Result<Cluster> {
    let kubeconfig = std::env::var_os(TESTBED_NODE_ENV).with_context(|| {
        format!(
            "{TESTBED_NODE_ENV} is not set. Run the tests by `make test`, or one by \
             `cargo run -p krypton-e2e -- run --node -- cargo test -p krypton-e2e --features node NAME`, \
             or start a node by `make cluster NODE=1` and do what it says"
        )
    })?;
    Cluster::connect(Path::new(&kubeconfig)).await
}

// === impl Cluster ===

impl Cluster {
    /// # Errors
    /// When the kubeconfig cannot be read; whether the API answers is not asked.
    pub(crate) async fn connect(kubeconfig: &Path) -> Result<Self> {
        let read = Kubeconfig::read_from(kubeconfig)
            .with_context(|| format!("cannot read the kubeconfig {}", kubeconfig.display()))?;
        let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
        // A test that takes the API away wants to see the failure, not to wait for the client's 15 tries.
        config.default_retry = false;
        Ok(Self { client: Client::try_from(config)?, kubeconfig: kubeconfig.to_owned() })
    }

    /// A client of its API.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The kubeconfig of its administrator: what a program under test takes as `KUBECONFIG`.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Whether the API server calls itself ready.
    ///
    /// # Errors
    /// When it does not, or does not answer.
    pub async fn readyz(&self) -> Result<()> {
        let answer = self.client.request_text(Request::get("/readyz").body(Vec::new())?).await?;
        ensure!(answer == "ok", "{answer}");
        Ok(())
    }

    /// Runs `kubectl` with `input`, as a user would; gives back its standard output.
    ///
    /// # Errors
    /// When kubectl fails; with what it said.
    pub async fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = Command::new(Kubernetes::find()?.kubectl)
            .env("KUBECONFIG", &self.kubeconfig)
            // Beside it, so that it goes with it.
            .env("KUBECACHEDIR", self.kubeconfig.with_file_name("kubectl-cache"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no standard input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies the CRD that the chart ships and waits until the API server serves it. May be called by each test.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn install_agent_crd(&self) -> Result<()> {
        const CRD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/krypton/files/crds/agents.yaml");
        self.kubectl(&["apply", "--server-side", "--filename", CRD], "").await?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "--filename", CRD], "")
            .await?;
        Ok(())
    }

    /// Gives `test` a new namespace, and deletes that afterwards, also when the test panics.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub async fn with_namespace<T>(&self, test: impl AsyncFnOnce(&Namespace) -> T) -> Result<T> {
        let namespace = self.create_namespace().await?;
        let outcome = AssertUnwindSafe(test(&namespace)).catch_unwind().await;
        // Its end is not awaited: nothing of it meets another test.
        namespace.delete().await.ok();
        outcome.map_or_else(|panic| resume_unwind(panic), Ok)
    }

    async fn create_namespace(&self) -> Result<Namespace> {
        // The server finds a name that was never used, also when the control plane outlives the run.
        let metadata = ObjectMeta { generate_name: Some("test-".to_owned()), ..ObjectMeta::default() };
        let wanted = core::Namespace { metadata, ..core::Namespace::default() };
        let created = Api::all(self.client()).create(&PostParams::default(), &wanted).await?;
        let name = created.metadata.name.context("a namespace without a name")?;
        let namespace = Namespace { cluster: self.clone(), name };
        // Pods are refused before it exists.
        let accounts: Api<core::ServiceAccount> = namespace.api();
        eventually("the namespace's default service account exists", REACTION_DEADLINE, async || {
            Ok(accounts.get("default").await?)
        })
        .await?;
        Ok(namespace)
    }

    /// The endpoint slice controller leaves out pods of a node that does not exist.
    pub(crate) async fn create_node(&self) -> Result<()> {
        let metadata = ObjectMeta { name: Some(NODE.to_owned()), ..ObjectMeta::default() };
        let node = core::Node { metadata, ..core::Node::default() };
        Api::all(self.client()).create(&PostParams::default(), &node).await?;
        Ok(())
    }
}

// === impl Namespace ===

impl Namespace {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The control plane it is in.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The objects of one kind in it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType: Default>
            + DeserializeOwned,
    {
        Api::namespaced(self.cluster.client(), &self.name)
    }

    /// Applies manifests as `kubectl apply` does.
    ///
    /// # Errors
    /// When the API server refuses one; with what kubectl said.
    pub async fn apply(&self, manifests: &str) -> Result<()> {
        self.cluster.kubectl(&["apply", "--namespace", &self.name, "--filename", "-"], manifests).await?;
        Ok(())
    }

    async fn delete(&self) -> Result<()> {
        // Without a kubelet nobody confirms the end of a pod, and the namespace would wait for it for ever. A real one
        // is left to end its pods in order: deleting them by force would leave their containers for a while.
        let pods: Api<core::Pod> = self.api();
        let at_once = DeleteParams::default().grace_period(0);
        let unattended = ListParams::default().fields(&format!("spec.nodeName={NODE}"));
        pods.delete_collection(&at_once, &unattended).await?;
        let namespaces: Api<core::Namespace> = Api::all(self.cluster.client());
        namespaces.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}
