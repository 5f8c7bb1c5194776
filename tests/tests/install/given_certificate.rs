//! A certificate that a person gives (`certificates.source: secret`): what they see while it is missing, when it has
//! expired, and once it is good.

use anyhow::{Result, ensure};
use krypton_e2e::authority::{Authority, Validity};
use krypton_e2e::cluster::Cluster;
use krypton_e2e::helm::Helm;
use krypton_e2e::node::krypton::TAG;
use krypton_e2e::programs::kubectl_krypton;
use krypton_e2e::wait::eventually;
use serde_json::json;

use crate::support::{RELEASE, SOON, kubectl, pods_are, values_with, with_node};

const SECRET: &str = "discovery-tls";
const NAME: &str = "krypton-controller.krypton-system.svc";

#[tokio::test]
async fn a_certificate_that_is_missing_or_has_expired_is_named_and_a_good_one_heals() {
    with_node(async |namespace| {
        let cluster = namespace.cluster();
        let helm = Helm::on(cluster).unwrap();
        let keys = json!({ "certificates": { "source": "secret", "secretName": SECRET } });
        let notes = helm.install(RELEASE, &values_with(TAG, keys), &["--create-namespace"]).await.unwrap();
        assert!(notes.contains(NAME) && notes.contains("Pods wait until it is there."), "{notes}");

        // Missing.
        says(cluster, &["get", "events"], &format!("secret \"{SECRET}\" not found")).await;
        doctor_says(cluster, "NoSecret").await;

        let authority = Authority::new().unwrap();
        give(cluster, &authority, Validity::Expired).await.unwrap();
        // A controller that every gateway would refuse does not call itself ready, so no gateway is led to one.
        let controllers = ["logs", "--selector=app.kubernetes.io/component=controller"];
        says(cluster, &controllers, "Certificate has expired; whoever connects refuses it").await;
        doctor_says(cluster, "CertificateExpired").await;

        // kubelet brings it to mounted folders within two minutes; pods that start have it at once.
        give(cluster, &authority, Validity::Now).await.unwrap();
        kubectl(cluster, &["rollout", "restart", "deployment/krypton-controller"]).await.unwrap();
        pods_are(cluster, "controller", 2, TAG).await;
        pods_are(cluster, "gateway", 2, TAG).await;
        eventually("doctor finds all well", SOON, async || {
            let ran = kubectl_krypton(cluster, &["doctor"]).await?;
            ensure!(ran.status == Some(0), "{}", ran.answer);
            Ok(())
        })
        .await
        .unwrap();
    })
    .await;
}

/// Puts a certificate for discovery into the Secret.
async fn give(cluster: &Cluster, authority: &Authority, validity: Validity) -> Result<()> {
    let folder = tempfile::tempdir()?;
    authority.issue(folder.path(), &[NAME], validity)?;
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": SECRET, "namespace": RELEASE.namespace },
        "stringData": { "tls.crt": read("tls.crt")?, "tls.key": read("tls.key")?, "ca.crt": authority.pem() },
    });
    cluster.kubectl(&["apply", "--filename", "-"], &secret.to_string()).await?;
    Ok(())
}

/// Waits until `kubectl` in the release's namespace prints those words.
async fn says(cluster: &Cluster, args: &[&str], words: &str) {
    eventually(&format!("kubectl {} says {words:?}", args.join(" ")), SOON, async || {
        let said = kubectl(cluster, args).await?;
        ensure!(said.contains(words), "{said}");
        Ok(())
    })
    .await
    .unwrap();
}

async fn doctor_says(cluster: &Cluster, name: &str) {
    eventually(&format!("doctor finds {name}"), SOON, async || {
        let ran = kubectl_krypton(cluster, &["doctor"]).await?;
        let found = ran.answer.contains(&format!("({name})")) && ran.answer.contains(SECRET);
        ensure!(found && ran.status == Some(1), "{}", ran.answer);
        Ok(())
    })
    .await
    .unwrap();
}
