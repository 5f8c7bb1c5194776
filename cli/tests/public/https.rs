//! HTTPS of the program's own client: whose certificates it believes, and what it says of those that it does not.

use std::process::{Output, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::NamedTempFile;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::front::{Front, Manners};

/// What DNS does not know: it is connected to by `--resolve`.
const HOST: &str = "agents.example.invalid";

/// All of this takes two seconds; this is for a machine that is busy with other tests.
const SOON: Duration = Duration::from_mins(1);

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

/// A front with a certificate like that, which `authority` signed.
async fn front(authority: &Authority, params: CertificateParams) -> Front {
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    Front::start_tls(Manners::default(), config).await
}

fn file(authority: &Authority) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), authority.as_ref().pem()).unwrap();
    file
}

/// Its exit status and what it prints.
async fn doctor(front: &Front, more: &[&str]) -> (Option<i32>, String) {
    let port = front.address.port();
    let (url, resolve) = (format!("https://{HOST}:{port}"), format!("{HOST}:{port}:{}", front.address.ip()));
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-krypton"))
        .args(["doctor", "--no-cluster", "--quick", "--url", &url, "--resolve", &resolve])
        .args(more)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Output { status, stdout, stderr } = timeout(SOON, output).await.unwrap().unwrap();
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test]
async fn who_is_signed_by_an_authority_that_was_given_is_believed() {
    let authority = authority("ours");
    let front = front(&authority, params(HOST)).await;
    let ca = file(&authority);
    let (status, text) = doctor(&front, &["--cacert", ca.path().to_str().unwrap()]).await;
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("Streaming") && text.contains("BodyPasses"), "{text}");
}

#[tokio::test]
async fn who_is_not_is_not_believed_and_it_is_said_what_is_wrong() {
    let (ours, other) = (authority("ours"), authority("other"));
    let mut expired = params(HOST);
    (expired.not_before, expired.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let mut early = params(HOST);
    (early.not_before, early.not_after) = (date_time_ymd(2090, 1, 1), date_time_ymd(2091, 1, 1));
    for (params, believed, sentence) in [
        (params(HOST), &other, "UnknownIssuer"),
        (expired, &ours, "expired"),
        (early, &ours, "not valid yet"),
        (params("elsewhere.example.invalid"), &ours, "not valid for name"),
    ] {
        let front = front(&ours, params).await;
        let ca = file(believed);
        let (status, text) = doctor(&front, &["--cacert", ca.path().to_str().unwrap()]).await;
        assert_eq!(status, Some(1), "{sentence}: {text}");
        assert!(text.contains("NotRouted") && text.contains(sentence), "{sentence}: {text}");
        assert!(text.contains("give its CA by --cacert"), "{sentence}: {text}");
        // None of it matters to who asked for it.
        let (status, text) = doctor(&front, &["--insecure"]).await;
        assert_eq!(status, Some(0), "{sentence}: {text}");
    }
}

#[tokio::test]
async fn a_file_that_has_no_certificates_is_an_error_that_names_it() {
    let front = front(&authority("ours"), params(HOST)).await;
    let empty = NamedTempFile::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    let (status, text) = doctor(&front, &["--cacert", empty]).await;
    assert_eq!(status, Some(1));
    assert!(text.contains(&format!("--cacert {empty}: no certificate in it")), "{text}");
    let (status, text) = doctor(&front, &["--cacert", "/nowhere/ca.crt"]).await;
    assert_eq!(status, Some(1));
    assert!(text.contains("--cacert /nowhere/ca.crt"), "{text}");
}

#[tokio::test]
async fn a_port_without_tls_is_told_so() {
    let front = Front::start(Manners::default()).await;
    let (status, text) = doctor(&front, &[]).await;
    assert_eq!(status, Some(1));
    let told = text.contains("does not speak TLS at this port; it seems to speak plain HTTP");
    assert!(text.contains("NotRouted") && told, "{text}");
    assert!(text.contains(&format!("try http://{HOST}:{}", front.address.port())), "{text}");
}

#[tokio::test]
async fn a_port_with_tls_is_told_so() {
    let front = front(&authority("ours"), params(HOST)).await;
    let url = format!("http://{}", front.address);
    let run = Command::new(env!("CARGO_BIN_EXE_kubectl-krypton"))
        .args(["doctor", "--no-cluster", "--quick", "--url", &url])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let text = String::from_utf8(timeout(SOON, run).await.unwrap().unwrap().stdout).unwrap();
    let told = format!("if the port speaks TLS, try https://{}", front.address);
    assert!(text.contains("NotRouted") && text.contains(&told), "{text}");
}
