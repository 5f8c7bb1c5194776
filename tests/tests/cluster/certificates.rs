//! The controllers' own certificate on a real Kubernetes API: empty objects are filled, every controller shows the
//! same, the API server asks the webhooks with nothing but what the leader wrote, and what is spoilt is repaired.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use http::StatusCode;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use krypton_e2e::cluster::Namespace;
use krypton_e2e::programs::Controller;
use krypton_e2e::wait::eventually;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::objects::put;
use crate::support::{SOON, becomes_ready, get, metric, metric_becomes, start_controller};
use crate::webhooks::{are_asked, configurations, with_namespace};

const SECRET: &str = "krypton-certificates";

const CONFIG_MAP: &str = "krypton-ca";

/// Empty, as the chart makes them.
pub(crate) async fn make_objects(namespace: &Namespace) {
    for (kind, name) in [("Secret", SECRET), ("ConfigMap", CONFIG_MAP)] {
        let object = json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } });
        put(namespace, object).await.unwrap();
    }
}

/// A controller with a certificate of its own, and where its webhooks are.
async fn start(namespace: &Namespace, identity: &str) -> (Controller, SocketAddr) {
    let args = [
        "--identity",
        identity,
        "--gateway-service-account",
        "krypton-system/krypton-gateway",
        "--certificate-secret",
        SECRET,
        "--certificate-authority",
        CONFIG_MAP,
        "--certificate-names",
        "krypton-controller.krypton-system.svc,127.0.0.1",
        "--webhook-configurations",
        namespace.name(),
        "--enable-webhooks",
        "--webhook-listen",
        "127.0.0.1:0",
    ];
    let mut controller = start_controller(namespace, &args).await;
    let webhooks = controller.listening("webhooks=").await.unwrap();
    (controller, webhooks)
}

/// Tells the API server to ask there, and not whom to trust.
async fn ask_at(namespace: &Namespace, address: SocketAddr) {
    for configuration in configurations(namespace.name(), address, None, "Fail") {
        let apply = ["apply", "--server-side", "--filename=-"];
        namespace.cluster().kubectl(&apply, &configuration.to_string()).await.unwrap();
    }
}

async fn secret(namespace: &Namespace) -> Result<Secret> {
    Ok(namespace.api::<Secret>().get(SECRET).await?)
}

/// The bundle that gateways trust.
async fn bundle(namespace: &Namespace) -> Result<String> {
    let config_map = namespace.api::<ConfigMap>().get(CONFIG_MAP).await?;
    config_map.data.and_then(|mut data| data.remove("ca.crt")).context("no bundle")
}

/// Waits until there is one, and writes it to a file in `folder`; gives back its path.
pub(crate) async fn save_bundle(namespace: &Namespace, folder: &Path) -> String {
    let bundle = eventually("there is a bundle", SOON, async || bundle(namespace).await).await.unwrap();
    let path = folder.join("ca.crt");
    std::fs::write(&path, bundle).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The certificate that is shown at `address` to a client who trusts `bundle` alone.
async fn shown_to(address: SocketAddr, bundle: &str) -> Result<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from("127.0.0.1")?, stream).await?;
    let chain = stream.get_ref().1.peer_certificates().context("no certificate")?;
    Ok(chain[0].clone().into_owned())
}

/// Waits until what is stored is shown at `address`, and trusted by whoever reads the ConfigMap; what that is.
async fn is_shown(namespace: &Namespace, address: SocketAddr) -> CertificateDer<'static> {
    eventually("the certificate is shown", SOON, async || {
        let data = secret(namespace).await?.data.context("empty")?;
        let stored = CertificateDer::from_pem_slice(&data.get("tls.crt").context("no tls.crt")?.0)?;
        let shown = shown_to(address, &bundle(namespace).await?).await?;
        ensure!(shown == stored, "another one");
        Ok(shown)
    })
    .await
    .unwrap()
}

/// Writes `data` over what is in the Secret.
async fn spoil(namespace: &Namespace, data: Value) {
    let patch = Patch::Merge(json!({ "data": data }));
    namespace.api::<Secret>().patch(SECRET, &PatchParams::default(), &patch).await.unwrap();
}

async fn leads(controller: &Controller) {
    metric_becomes(controller.admin, "krypton_controller_leader", 1.0).await;
}

#[tokio::test]
async fn empty_objects_are_filled_and_the_api_server_trusts_the_webhooks() {
    with_namespace(async |namespace| {
        make_objects(namespace).await;
        let (first, at_first) = start(namespace, "first").await;
        leads(&first).await;
        let shown = is_shown(namespace, at_first).await;
        let (second, at_second) = start(namespace, "second").await;
        assert_eq!(is_shown(namespace, at_second).await, shown);
        for controller in [&first, &second] {
            // Its certificate does not wait for its watches.
            let ready = becomes_ready(controller.admin).await;
            for server in ["discovery", "webhooks"] {
                assert!(ready.contains(&format!("[+] certificate of {server}: expires ")), "{ready}");
                let name = "krypton_controller_certificate_expiry_timestamp_seconds";
                let expires =
                    metric(controller.admin, &format!("{name}{{server=\"{server}\"}}")).await.unwrap();
                let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
                assert!((80.0..=90.0).contains(&((expires - now) / 86_400.0)), "{expires}");
            }
            let log = controller.process.log().read().unwrap();
            assert!(!log.contains("PRIVATE KEY"), "{log}");
        }
        // The configurations come last, as with webhooks that are turned on later.
        ask_at(namespace, at_second).await;
        are_asked(namespace).await;
    })
    .await;
}

#[tokio::test]
async fn the_next_leader_goes_on_and_repairs_what_others_undo() {
    with_namespace(async |namespace| {
        make_objects(namespace).await;
        let (mut first, at_first) = start(namespace, "first").await;
        let shown = is_shown(namespace, at_first).await;
        let (second, at_second) = start(namespace, "second").await;
        ask_at(namespace, at_second).await;
        are_asked(namespace).await;
        let stored = secret(namespace).await.unwrap();
        first.process.terminate();
        assert!(first.process.ended(SOON).await.unwrap().success());
        leads(&second).await;

        // Somebody empties the ConfigMap.
        let trusted = bundle(namespace).await.unwrap();
        let empty =
            Patch::Json::<()>(serde_json::from_value(json!([{ "op": "remove", "path": "/data" }])).unwrap());
        namespace.api::<ConfigMap>().patch(CONFIG_MAP, &PatchParams::default(), &empty).await.unwrap();
        eventually("it is filled again", SOON, async || {
            ensure!(bundle(namespace).await? == trusted, "not the same");
            Ok(())
        })
        .await
        .unwrap();
        // Helm writes the configuration as its template has it.
        let all: Api<ValidatingWebhookConfiguration> = Api::all(namespace.cluster().client());
        let reset = json!([{ "op": "remove", "path": "/webhooks/0/clientConfig/caBundle" }]);
        let reset = Patch::Json::<()>(serde_json::from_value(reset).unwrap());
        all.patch(namespace.name(), &PatchParams::default(), &reset).await.unwrap();
        eventually("the caBundle is back", SOON, async || {
            let webhooks = all.get(namespace.name()).await?.webhooks.context("none")?;
            ensure!(webhooks[0].client_config.ca_bundle == Some(ByteString(trusted.clone().into_bytes())));
            Ok(())
        })
        .await
        .unwrap();
        are_asked(namespace).await;
        assert_eq!(is_shown(namespace, at_second).await, shown);
        assert_eq!(secret(namespace).await.unwrap().data, stored.data);
    })
    .await;
}

#[tokio::test]
async fn what_has_expired_is_replaced_at_once_and_garbage_once_gateways_know_the_next_authority() {
    with_namespace(async |namespace| {
        make_objects(namespace).await;
        spoil(namespace, expired()).await;
        let (_controller, address) = start(namespace, "only").await;
        let first = is_shown(namespace, address).await;
        ask_at(namespace, address).await;
        are_asked(namespace).await;
        let garbage = json!(ByteString(b"garbage".to_vec()));
        let keys = ["tls.crt", "tls.key", "ca.crt", "ca.key", "next-ca.crt", "next-ca.key"];
        spoil(namespace, keys.iter().map(|key| ((*key).to_owned(), garbage.clone())).collect()).await;
        // There is another authority, which signs in three minutes. Until then replicas show what they hold, and whoever
        // trusts what was published before goes on to be told of it.
        eventually("the next authority is published too", SOON, async || {
            let published = bundle(namespace).await?;
            ensure!(published.matches("BEGIN CERTIFICATE").count() == 2, "{published}");
            ensure!(shown_to(address, &published).await? == first, "another leaf");
            Ok(())
        })
        .await
        .unwrap();
        are_asked(namespace).await;
        let data = secret(namespace).await.unwrap().data.unwrap();
        assert!(data["next-ca.crt"].0.starts_with(b"-----BEGIN CERTIFICATE"));
    })
    .await;
}

/// An authority and a leaf whose time is over.
fn expired() -> Value {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let mut leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    for params in [&mut ca, &mut leaf] {
        params.not_before = date_time_ymd(2_024, 1, 1);
        params.not_after = date_time_ymd(2_025, 1, 1);
    }
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let ca_key_pem = ca_key.serialize_pem();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let data = [
        ("ca.crt", ca_pem),
        ("ca.key", ca_key_pem),
        ("tls.crt", leaf.pem()),
        ("tls.key", key.serialize_pem()),
    ];
    data.into_iter().map(|(name, text)| (name.to_owned(), json!(ByteString(text.into_bytes())))).collect()
}

#[tokio::test]
async fn a_missing_secret_is_said_and_waited_for() {
    with_namespace(async |namespace| {
        let (controller, address) = start(namespace, "only").await;
        let line = format!(
            "[-] certificate of discovery: none yet: Secret {}/{SECRET} does not exist; whoever installs the controller makes \
             it, empty",
            namespace.name()
        );
        eventually("the controller says what is missing", SOON, async || {
            let ready = get(controller.admin, "/readyz?verbose").await?;
            ensure!(ready.status == StatusCode::SERVICE_UNAVAILABLE && ready.body.contains(&line), "{}", ready.body);
            Ok(())
        })
        .await
        .unwrap();
        make_objects(namespace).await;
        is_shown(namespace, address).await;
        // What is in use stays so when the Secret goes away; it is said, once.
        namespace.api::<Secret>().delete(SECRET, &DeleteParams::default()).await.unwrap();
        let said = "Certificate cannot be read; the one before stays in use";
        eventually("the controller says so", SOON, async || {
            ensure!(controller.process.log().read()?.contains(said));
            Ok(())
        })
        .await
        .unwrap();
        becomes_ready(controller.admin).await;
        let trusted = bundle(namespace).await.unwrap();
        shown_to(address, &trusted).await.unwrap();
        let log = controller.process.log().read().unwrap();
        assert_eq!(log.matches(said).count(), 1, "{log}");
    })
    .await;
}
