//! TLS over real connections, to a controller that does nothing but show a certificate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::testing::within;

/// What the flag names, and what its certificate is for.
const NAME: &str = "krypton-controller.krypton-system.svc";

/// Signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A controller that reads what comes. Dropping it ends all of its connections.
struct Server {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

/// A gateway's files.
struct Files {
    folder: TempDir,
}

impl Authority {
    /// All of them bear the same name, as those of a rotation do.
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, edit: impl FnOnce(&mut CertificateParams)) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        edit(&mut params);
        let certificate: CertificateDer<'static> = params.signed_by(&key, &self.issuer).unwrap().into();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }
}

impl Server {
    /// Without a certificate, connections are closed.
    async fn start(config: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Some(config) = config.clone() else { continue };
                connections.spawn(async move {
                    if let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await {
                        stream.read_to_end(&mut Vec::new()).await.ok();
                    }
                });
            }
        });
        Self { address, _tasks: tasks }
    }
}

impl Files {
    fn new(bundle: &str) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.trust(bundle);
        files
    }

    fn bundle(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    fn trust(&self, bundle: &str) {
        std::fs::write(self.bundle(), bundle).unwrap();
    }

    /// Dials the address, as a leader's is; the name is that of the flag.
    async fn connect(&self, address: SocketAddr) -> Result<Link, LinkError> {
        let flag = format!("https://{NAME}:9090").parse().unwrap();
        let credentials = Credentials::new(&flag, Some(self.bundle()), None).unwrap();
        let address = format!("https://{address}").parse().unwrap();
        within("a connection", connect(&address, &credentials, LinkLimits::default())).await
    }

    async fn error(&self, address: SocketAddr) -> String {
        let Err(error) = self.connect(address).await else { panic!("it is trusted") };
        assert_eq!(Trouble::from(&error), Trouble::Untrusted, "{error}");
        error.to_string()
    }
}

#[tokio::test]
async fn the_name_of_the_flag_is_verified_whatever_address_is_dialled() {
    let authority = Authority::new();
    let files = Files::new(&authority.pem);
    let server = Server::start(Some(authority.sign(|_| {}))).await;
    files.connect(server.address).await.unwrap();

    let other = |params: &mut CertificateParams| {
        params.subject_alt_names =
            CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().subject_alt_names;
    };
    let server = Server::start(Some(authority.sign(other))).await;
    let error = files.error(server.address).await;
    assert!(error.contains("name mismatch: the controller's certificate is not for krypton-con"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused_in_words() {
    let authority = Authority::new();
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
    };
    let server = Server::start(Some(authority.sign(expired))).await;
    let error = Files::new(&authority.pem).error(server.address).await;
    assert!(error.contains("the controller's certificate has expired"), "{error}");
}

#[tokio::test]
async fn whom_to_trust_is_read_anew_for_each_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(&old.pem);
    let server = Server::start(Some(new.sign(|_| {}))).await;
    let error = files.error(server.address).await;
    assert!(error.contains("unknown issuer"), "{error}");
    files.trust(&format!("{}{}", old.pem, new.pem));
    files.connect(server.address).await.unwrap();
    files.trust("");
    let error = files.connect(server.address).await.err().unwrap();
    assert_eq!(Trouble::from(&error), Trouble::Files, "{error}");
    files.trust(&new.pem);
    files.connect(server.address).await.unwrap();
}

#[tokio::test]
async fn what_answers_without_tls_is_named() {
    let files = Files::new(&Authority::new().pem);
    let closing = Server::start(None).await;
    let error = files.connect(closing.address).await.err().unwrap();
    assert_eq!(Trouble::from(&error), Trouble::Away, "{error}");
    assert!(error.to_string().contains("it may have no certificate yet"), "{error}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let plain = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.ok();
    };
    let (error, ()) = tokio::join!(files.error(address), plain);
    assert!(error.contains("what answers does not speak TLS"), "{error}");
}
