//! Discovery and report over TLS: certificates that are renewed, rotated, expired, of another name, or of nobody.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use krypton_e2e::authority::{Authority, Validity};
use krypton_e2e::programs::{Controller, Gateway, krypton};
use krypton_e2e::state::RunDir;
use krypton_e2e::wait::eventually;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::manifest::Manifests;
use crate::support::{SOON, freshness_becomes, is_ready, json_lines, logged, metric_becomes, status_becomes};

/// What the log says first, with a table before or without one.
const UNTRUSTED: &str = "The controller is not trusted; ";
const UNREADABLE: &str = "Credentials cannot be read; ";

/// A controller with a certificate, and what its gateways trust.
struct Place {
    controller: Controller,
    folder: TempDir,
    manifests: Manifests,
}

// === impl Place ===

impl Place {
    async fn start(authority: &Authority, names: &[&str], validity: Validity) -> Self {
        let (folder, manifests) = (TempDir::new().unwrap(), Manifests::with_echo(&[]));
        authority.issue(folder.path(), names, validity).unwrap();
        let args = ["--discovery-cert-dir", folder.path().to_str().unwrap()];
        let controller = Controller::start_on_manifests(manifests.path(), &args).await.unwrap();
        Self { controller, folder, manifests }
    }

    /// A file in which gateways find whom to trust.
    fn bundle(&self, name: &str, authorities: &[&Authority]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, authorities.iter().map(|authority| authority.pem()).collect::<String>())
            .unwrap();
        path
    }

    /// A gateway that knows the controller as `localhost`; reports go to 127.0.0.1, by the same name.
    async fn gateway(&self, bundle: &Path) -> Gateway {
        let discovery = format!("https://localhost:{}", self.controller.discovery.port());
        let args = ["--discovery-ca-file", bundle.to_str().unwrap()];
        Gateway::start_on(&discovery, &args).await.unwrap()
    }
}

/// The lines of the log that begin with `headline`.
fn told(gateway: &Gateway, headline: &str) -> Vec<Value> {
    let lines = json_lines(&gateway.process.log()).into_iter();
    lines.filter(|line| line["message"].as_str().is_some_and(|told| told.starts_with(headline))).collect()
}

/// Why the gateway has no controller, as its log says.
async fn lost_because(gateway: &Gateway, headline: &str, words: &str) {
    eventually(&format!("the log says: {words}"), SOON, async || {
        let told = told(gateway, headline);
        ensure!(
            told.iter().any(|line| line["error"].as_str().is_some_and(|error| error.contains(words))),
            "{told:?}"
        );
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn routes_and_reports_go_over_tls_by_one_name() {
    let authority = Authority::new().unwrap();
    let place = Place::start(&authority, &["localhost"], Validity::Now).await;
    let gateway = place.gateway(&place.bundle("ca.crt", &[&authority])).await;
    is_ready(gateway.admin).await;
    metric_becomes(gateway.admin, "krypton_report_connected", 1.0).await;
    metric_becomes(place.controller.admin, "krypton_controller_report_members", 1.0).await;
    let connected = logged(&place.controller.process.log(), "Gateway connected").await;
    assert!(connected["address"].as_str().is_some_and(|address| address.contains(':')), "{connected}");
}

#[tokio::test]
async fn a_certificate_is_renewed_and_its_authority_rotated_without_a_restart() {
    let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
    let mut place = Place::start(&old, &["localhost"], Validity::Now).await;
    let bundle = place.bundle("ca.crt", &[&old]);
    let first = place.gateway(&bundle).await;
    is_ready(first.admin).await;

    new.issue(place.folder.path(), &["localhost"], Validity::Now).unwrap();
    logged(&place.controller.process.log(), "Certificate was replaced").await;
    // Who is connected stays so; who comes is shown the new one.
    freshness_becomes(&first, "live").await;
    let second = place.gateway(&bundle).await;
    lost_because(&second, UNTRUSTED, "unknown issuer: no certificate in --discovery-ca-file signed").await;
    logged(
        &place.controller.process.log(),
        "TLS handshake with a gateway failed; does its --discovery-ca-file fit the certificate?",
    )
    .await;
    place.bundle("ca.crt", &[&old, &new]);
    is_ready(second.admin).await;

    // A controller that starts again is found by both.
    let port = place.controller.discovery.to_string();
    place.controller.process.kill();
    freshness_becomes(&first, "lost").await;
    let args = ["--discovery-cert-dir", place.folder.path().to_str().unwrap(), "--discovery-listen", &port];
    place.controller = Controller::start_on_manifests(place.manifests.path(), &args).await.unwrap();
    for gateway in [&first, &second] {
        freshness_becomes(gateway, "live").await;
    }
}

#[tokio::test]
async fn who_cannot_be_trusted_is_told_once_with_the_reason() {
    let (authority, other) = (Authority::new().unwrap(), Authority::new().unwrap());
    for (names, validity, trusted, words) in [
        (&["localhost"], Validity::Expired, &authority, "the controller's certificate has expired"),
        (
            &["elsewhere"],
            Validity::Now,
            &authority,
            "name mismatch: the controller's certificate is not for localhost",
        ),
        (&["localhost"], Validity::Now, &other, "unknown issuer"),
    ] {
        let place = Place::start(&authority, names, validity).await;
        let gateway = place.gateway(&place.bundle("ca.crt", &[trusted])).await;
        lost_because(&gateway, UNTRUSTED, words).await;
        status_becomes(gateway.admin, "/readyz?verbose", 503).await;
        let told = told(&gateway, UNTRUSTED);
        assert_eq!(told.len(), 1, "{told:?}");
    }
}

#[tokio::test]
async fn a_bundle_that_comes_late_is_found() {
    let authority = Authority::new().unwrap();
    let place = Place::start(&authority, &["localhost"], Validity::Now).await;
    let gateway = place.gateway(&place.folder.path().join("ca.crt")).await;
    lost_because(&gateway, UNREADABLE, "--discovery-ca-file").await;
    place.bundle("ca.crt", &[]);
    lost_because(&gateway, UNREADABLE, "No such file").await;
    place.bundle("ca.crt", &[&authority]);
    is_ready(gateway.admin).await;
}

#[tokio::test]
async fn what_does_not_go_together_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().to_str().unwrap();
    let any = "0.0.0.0:0";
    for (program, args, words) in [
        ("krypton-gateway", &["--discovery", "https://localhost:1"][..], "--discovery-ca-file is missing"),
        ("krypton-gateway", &["--discovery-ca-file", "f"], "--discovery-ca-file says nothing with"),
        (
            "krypton-gateway",
            &["--discovery", "http://controller:1", "--discovery-token-file", "f"],
            "--discovery-token-file needs --discovery https://",
        ),
        ("krypton-controller", &["--discovery-listen", any], "--discovery-plaintext"),
        ("krypton-controller", &["--discovery-cert-dir", folder], "--gateway-service-account is missing"),
        (
            "krypton-controller",
            &["--manifests", folder, "--discovery-cert-dir", folder],
            "--discovery-cert-dir: ",
        ),
    ] {
        let program = krypton(program).unwrap().args(args);
        let mut running = program.start(RunDir::of_this_process().unwrap()).unwrap();
        let status = running.ended(SOON).await.unwrap();
        let output = running.log().read().unwrap();
        assert_eq!(status.code(), Some(1), "{output}");
        assert!(output.contains(words), "{args:?}: {output}");
    }
}
