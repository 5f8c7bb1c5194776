//! The admission webhooks as a real API server asks them: what kubectl shows of a refusal, that a certificate is
//! renewed without a failed write, and that the cluster goes on without them where it is told to.
//!
//! The configurations hold for the test's own namespace only, so that no other test meets them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use k8s_openapi::ByteString;
use krypton_e2e::authority::{Authority, Validity};
use krypton_e2e::cluster::{Cluster, Namespace, shared};
use krypton_e2e::programs::Controller;
use krypton_e2e::wait::eventually;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::crd::{agents, try_create};
use crate::objects::{agent, put};

/// The API server takes up a configuration within a second; this is for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);

/// What only the webhooks refuse.
fn unseen_by_the_schema() -> Value {
    json!({ "env": [{ "name": "PORT", "value": 8080 }] })
}

/// Puts a new certificate of the webhooks into `folder`.
fn issue(authority: &Authority, folder: &Path) {
    authority.issue(folder, &["127.0.0.1"], Validity::Now).unwrap();
}

/// A controller that serves webhooks which the API server asks about one namespace.
struct Webhooks<'n> {
    namespace: &'n Namespace,
    controller: Controller,
    address: SocketAddr,
    certificates: TempDir,
    authority: Authority,
}

impl<'n> Webhooks<'n> {
    async fn start(namespace: &'n Namespace, failure_policy: &str) -> Self {
        let certificates = TempDir::new().unwrap();
        let authority = Authority::new().unwrap();
        issue(&authority, certificates.path());
        let folder = certificates.path().to_str().unwrap();
        let args = ["--enable-webhooks", "--webhook-listen", "127.0.0.1:0", "--webhook-cert-dir", folder];
        let kubeconfig = namespace.cluster().kubeconfig();
        let mut controller = Controller::start_on_cluster(kubeconfig, &args).await.unwrap();
        let address = controller.listening("webhooks=").await.unwrap();
        let webhooks = Self { namespace, controller, address, certificates, authority };
        webhooks.configure(webhooks.authority.pem(), failure_policy).await.unwrap();
        webhooks.are_asked().await;
        webhooks
    }

    /// Tells the cluster to ask them, and to trust `bundle`.
    async fn configure(&self, bundle: &str, failure_policy: &str) -> Result<()> {
        for configuration in configurations(self.namespace.name(), self.address, Some(bundle), failure_policy)
        {
            let apply = ["apply", "--server-side", "--filename=-"];
            self.namespace.cluster().kubectl(&apply, &configuration.to_string()).await?;
        }
        Ok(())
    }

    /// Waits until the API server took the configuration up.
    async fn are_asked(&self) {
        are_asked(self.namespace).await;
    }

    /// How often the log says that a certificate was taken up.
    fn replaced(&self) -> Result<usize> {
        Ok(self.controller.process.log().read()?.matches("Certificate was replaced").count())
    }
}

/// Both configurations: the API server asks at `address` about the namespace that bears their name.
pub(crate) fn configurations(
    name: &str,
    address: SocketAddr,
    bundle: Option<&str>,
    failure_policy: &str,
) -> [Value; 2] {
    let kinds = [
        ("MutatingWebhookConfiguration", "/mutate-krypton-ai-v1alpha1-agent"),
        ("ValidatingWebhookConfiguration", "/validate-krypton-ai-v1alpha1-agent"),
    ];
    kinds.map(|(kind, path)| {
        let mut client = json!({ "url": format!("https://{address}{path}") });
        if let Some(bundle) = bundle {
            client["caBundle"] = json!(ByteString(bundle.as_bytes().to_owned()));
        }
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": { "name": name },
            "webhooks": [{
                "name": format!("{}.krypton.ai", kind.to_lowercase()),
                "admissionReviewVersions": ["v1"],
                "clientConfig": client,
                "failurePolicy": failure_policy,
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } },
                "rules": [{
                    "apiGroups": ["krypton.ai"],
                    "apiVersions": ["v1alpha1"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": ["agents"],
                }],
                "sideEffects": "None",
            }],
        })
    })
}

/// Waits until the API server asks webhooks about the namespace, and trusts them.
pub(crate) async fn are_asked(namespace: &Namespace) {
    eventually("the webhooks are asked", SOON, async || {
        let refusal =
            try_create(namespace, "a", unseen_by_the_schema()).await.err().context("nobody minds")?;
        ensure!(refusal.contains("spec.env[0].value"), "{refusal}");
        try_create(namespace, "a", json!({})).await.map_err(anyhow::Error::msg)
    })
    .await
    .unwrap();
}

/// Gives `test` the namespace, and takes the configurations away that bear its name.
pub(crate) async fn with_namespace(test: impl AsyncFnOnce(&Namespace)) {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let mut name = String::new();
    let run = cluster.with_namespace(async |namespace| {
        name = namespace.name().to_owned();
        test(namespace).await;
    });
    let outcome = std::panic::AssertUnwindSafe(run).catch_unwind().await;
    forget(&cluster, &name).await.unwrap();
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)).unwrap();
}

async fn forget(cluster: &Cluster, name: &str) -> Result<()> {
    for kind in ["mutatingwebhookconfiguration", "validatingwebhookconfiguration"] {
        cluster.kubectl(&["delete", kind, name, "--ignore-not-found"], "").await?;
    }
    Ok(())
}

#[tokio::test]
async fn kubectl_shows_every_field_that_is_wrong_and_the_way_out() {
    with_namespace(async |namespace| {
        // Stored before anybody asked.
        put(namespace, agent("old", unseen_by_the_schema())).await.unwrap();
        let _webhooks = Webhooks::start(namespace, "Fail").await;

        let mut spec = unseen_by_the_schema();
        spec["resources"] = json!({ "limits": { "memory": "1 Gi" } });
        let refusal = namespace.apply(&agent("a", spec).to_string()).await.unwrap_err().to_string();
        for line in [
            "The Agent \"a\" is invalid",
            "* spec.env[0].value: 8080 is not a text; write \"8080\", in quotes",
            "* spec.resources.limits[memory]: \"1 Gi\" is not a quantity; write a number with a unit, e.g. 500m, 2, 1Gi",
        ] {
            assert!(refusal.contains(line), "{line}\n{refusal}");
        }
        namespace.apply(&agent("a", json!({ "image": "example:1" })).to_string()).await.unwrap();
        let stored = agents(namespace).get("a").await.unwrap();
        assert_eq!(
            stored.data["spec"],
            json!({
                "image": "example:1", "imagePullPolicy": "IfNotPresent", "mode": "always-on", "port": 8080,
                "protocol": "http",
            })
        );

        // The old one can be labelled, told about, changed elsewhere, and deleted; but not made worse.
        let (agents, params) = (agents(namespace), PatchParams::default());
        for change in [json!({ "metadata": { "labels": { "a": "b" } } }), json!({ "spec": { "concurrency": 4 } })] {
            agents.patch("old", &params, &Patch::Merge(&change)).await.unwrap();
        }
        let status = json!({ "status": { "replicas": 1 } });
        agents.patch_status("old", &params, &Patch::Merge(&status)).await.unwrap();
        let worse = json!({ "spec": { "env": [{}] } });
        let refusal = agents.patch("old", &params, &Patch::Merge(&worse)).await.unwrap_err().to_string();
        assert!(refusal.contains("spec.env[0].name: is missing; give the variable a name"), "{refusal}");
        agents.delete("old", &kube::api::DeleteParams::default()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_certificate_is_renewed_without_a_failed_write() {
    with_namespace(async |namespace| {
        let webhooks = Webhooks::start(namespace, "Fail").await;
        let next = Authority::new().unwrap();
        // As it is done by hand: trust both, renew, trust the new one alone. All the while writes go on.
        let renewal = async {
            webhooks.configure(&format!("{}{}", webhooks.authority.pem(), next.pem()), "Fail").await?;
            issue(&next, webhooks.certificates.path());
            eventually("the new certificate is in use", SOON, async || {
                ensure!(webhooks.replaced()? == 1, "not yet");
                Ok(())
            })
            .await?;
            webhooks.configure(next.pem(), "Fail").await
        };
        let mut renewal = std::pin::pin!(renewal);
        let mut writes = 0;
        let renewed = loop {
            let write = try_create(namespace, "a", json!({}));
            tokio::select! {
                renewed = renewal.as_mut() => break renewed,
                outcome = write => outcome.map_err(anyhow::Error::msg).with_context(|| format!("write {writes}")).unwrap(),
            }
            writes += 1;
        };
        renewed.unwrap();
        assert!(writes > 0);
        // It is the new one that is shown: with the old authority alone nobody trusts it.
        // (Twice, as the API server keeps the connections that it made with the very same bundle.)
        webhooks.configure(&webhooks.authority.pem().repeat(2), "Fail").await.unwrap();
        eventually("the new certificate is not trusted", SOON, async || {
            let refusal = try_create(namespace, "a", json!({})).await.err().context("it is")?;
            ensure!(refusal.contains("certificate signed by unknown authority"), "{refusal}");
            Ok(())
        })
        .await
        .unwrap();
        eventually("the log says why", SOON, async || {
            let log = webhooks.controller.process.log().read()?;
            ensure!(log.contains("TLS handshake with the webhooks failed; does caBundle fit"), "{log}");
            Ok(())
        })
        .await
        .unwrap();
        webhooks.configure(next.pem(), "Fail").await.unwrap();
        webhooks.are_asked().await;
    })
    .await;
}

#[tokio::test]
async fn without_the_webhooks_the_schema_still_decides() {
    with_namespace(async |namespace| {
        let mut webhooks = Webhooks::start(namespace, "Ignore").await;
        webhooks.controller.process.kill();
        try_create(namespace, "a", unseen_by_the_schema()).await.unwrap();
        let refusal = try_create(namespace, "a", json!({ "port": 0 })).await.unwrap_err();
        assert!(refusal.contains("spec.port"), "{refusal}");
        let refusal = try_create(namespace, "a", json!({ "minReplicas": 3, "maxReplicas": 2 })).await;
        assert!(refusal.unwrap_err().contains("spec.maxReplicas"));
    })
    .await;
}
