//! Connections over TLS, by clients that the test makes.

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_stream::StreamExt as _;

use super::*;
use crate::certificate::Alpn;
use crate::certificate::tests::{load, mk_pair, write};

/// Far above what anything takes, so that only what never comes runs into it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Fixture {
    address: SocketAddr,
    configs: watch::Sender<Option<Arc<ServerConfig>>>,
    connections: ReceiverStream<io::Result<Connection>>,
    _accepting: JoinSet<Infallible>,
}

impl Fixture {
    async fn start(config: Option<Arc<ServerConfig>>, bounds: Bounds) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let configs = watch::Sender::new(config);
        let (accepting, connections) = incoming(listener, configs.subscribe(), bounds);
        let mut tasks = JoinSet::new();
        tasks.spawn(accepting);
        Self { address, configs, connections, _accepting: tasks }
    }

    /// A connection that trusts `certificate` alone.
    async fn connect(&self, certificate: &str) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tcp = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
    }

    async fn next(&mut self) -> Connection {
        within(self.connections.next()).await.unwrap().unwrap()
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("in time")
}

/// A certificate, and the configuration that shows it.
async fn mk_config() -> (String, Arc<ServerConfig>) {
    let (folder, pair) = (TempDir::new().unwrap(), mk_pair());
    write(folder.path(), &pair);
    let loaded = load(folder.path()).await.unwrap();
    let config = loaded.certificate().configs(Alpn::H2).borrow().clone().unwrap();
    (pair.0, config)
}

#[tokio::test]
async fn a_connection_is_known_by_its_address_and_sends_at_once() {
    let (certificate, config) = mk_config().await;
    let mut fixture = Fixture::start(Some(config), Bounds::for_gateways(1)).await;
    let client = fixture.connect(&certificate).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let connection = fixture.next().await;
    let info = connection.connect_info();
    assert_eq!(info.remote_addr(), Some(client.get_ref().0.local_addr().unwrap()));
    assert!(connection.stream.get_ref().0.nodelay().unwrap());
}

#[tokio::test]
async fn each_connection_begins_with_the_newest_certificate_and_keeps_it() {
    let ((old, first), (new, second)) = (mk_config().await, mk_config().await);
    let mut fixture = Fixture::start(None, Bounds::for_gateways(1)).await;
    assert!(fixture.connect(&old).await.is_err(), "there is no certificate yet");
    fixture.configs.send_replace(Some(first));
    let mut early = fixture.connect(&old).await.unwrap();
    let mut served = fixture.next().await;
    fixture.configs.send_replace(Some(second));
    assert!(fixture.connect(&old).await.is_err());
    fixture.connect(&new).await.unwrap();
    early.write_all(b"still here").await.unwrap();
    let mut read = [0; 10];
    within(served.read_exact(&mut read)).await.unwrap();
    assert_eq!(&read, b"still here");
}

#[tokio::test]
async fn who_never_shakes_hands_takes_a_place_for_a_while_only() {
    let (certificate, config) = mk_config().await;
    let bounds = Bounds { connections: 2, handshakes: 1, handshake: Duration::from_millis(50) };
    let mut fixture = Fixture::start(Some(config), bounds).await;
    let mut silent = TcpStream::connect(fixture.address).await.unwrap();
    let client = fixture.connect(&certificate).await.unwrap();
    assert_eq!(within(silent.read(&mut [0])).await.unwrap_or(0), 0, "it was hung up");
    drop((client, fixture.next().await));
}

#[tokio::test]
async fn connections_are_bounded_in_number() {
    let (certificate, config) = mk_config().await;
    let bounds = Bounds { connections: 1, ..Bounds::for_gateways(1) };
    let mut fixture = Fixture::start(Some(config), bounds).await;
    let _client = fixture.connect(&certificate).await.unwrap();
    let first = fixture.next().await;
    let address = fixture.address;
    let mut waiting = std::pin::pin!(fixture.connect(&certificate));
    assert!(
        timeout(Duration::from_millis(50), waiting.as_mut()).await.is_err(),
        "{address}: there is no room"
    );
    drop(first);
    within(waiting).await.unwrap();
}

#[tokio::test]
async fn the_port_is_free_once_nobody_is_served() {
    let mut fixture = Fixture::start(Some(mk_config().await.1), Bounds::for_gateways(1)).await;
    fixture.connections.close();
    within(async {
        while TcpStream::connect(fixture.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
