//! Connections over TLS and in plain text, by clients that the test makes.

use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_stream::StreamExt as _;
use tonic::transport::server::Connected as _;

use super::*;
use crate::certificate::Alpn;
use crate::certificate::tests::{load, mk_pair, write};
use crate::metrics::Metrics;

/// Far above what anything takes, so that only what never comes runs into it.
const DEADLINE: Duration = Duration::from_secs(20);

struct Fixture {
    address: SocketAddr,
    configs: watch::Sender<Option<Arc<ServerConfig>>>,
    connections: ReceiverStream<io::Result<Connection>>,
    registry: Registry,
    _accepting: JoinSet<Infallible>,
}

impl Fixture {
    /// Over TLS, with a certificate from the start where there is a `config`.
    async fn start(config: Option<Arc<ServerConfig>>, bounds: Bounds) -> Self {
        let configs = watch::Sender::new(config);
        let newest = configs.subscribe();
        Self::start_with(configs, Some(newest), bounds).await
    }

    async fn start_in_plain_text(bounds: Bounds) -> Self {
        Self::start_with(watch::Sender::new(None), None, bounds).await
    }

    async fn start_with(
        configs: watch::Sender<Option<Arc<ServerConfig>>>,
        newest: Option<Configs>,
        bounds: Bounds,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut registry = Registry::default();
        let teller = Teller::new(Arc::new(Metrics::new(&mut registry)));
        let (accepting, connections) = incoming(listener, newest, bounds, teller);
        let mut tasks = JoinSet::new();
        tasks.spawn(accepting);
        Self { address, configs, connections, registry, _accepting: tasks }
    }

    /// A connection that trusts `certificate` alone.
    async fn connect(&self, certificate: &str) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        shake_hands_by(certificate, TcpStream::connect(self.address).await?).await
    }

    /// One from another address than all others.
    async fn elsewhere(&self) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    fn counts(&self, line: &str) {
        let mut exposition = String::new();
        text::encode(&mut exposition, &self.registry).unwrap();
        assert!(exposition.lines().any(|counted| counted == line), "{line}: {exposition}");
    }

    async fn next(&mut self) -> Connection {
        within(self.connections.next()).await.unwrap().unwrap()
    }
}

/// A client's handshake; it trusts `certificate` alone.
pub(in crate::discovery) async fn shake_hands_by(
    certificate: &str,
    tcp: TcpStream,
) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    within(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
}

fn bounds() -> Bounds {
    Bounds::new(&Limits::default())
}

/// Each address, all of which are this machine's here, may have so many connections of `all`.
fn with_connections(all: usize, of_address: usize) -> Bounds {
    Bounds { connections: (all, of_address), of_own_address: of_address, ..bounds() }
}

/// Waits until the other side has hung up.
async fn hung_up(mut client: impl tokio::io::AsyncRead + Unpin) {
    assert_eq!(within(client.read(&mut [0])).await.unwrap_or(0), 0);
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("in time")
}

/// A certificate, and the configuration that shows it.
pub(in crate::discovery) async fn mk_config() -> (String, Arc<ServerConfig>) {
    let (folder, pair) = (TempDir::new().unwrap(), mk_pair());
    write(folder.path(), &pair);
    let loaded = load(folder.path()).await.unwrap();
    let config = loaded.certificate().configs(Alpn::H2).borrow().clone().unwrap();
    (pair.0, config)
}

#[tokio::test]
async fn a_connection_is_known_by_its_address_and_sends_at_once() {
    let (certificate, config) = mk_config().await;
    let mut fixture = Fixture::start(Some(config), bounds()).await;
    let client = fixture.connect(&certificate).await.unwrap();
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let connection = fixture.next().await;
    let info = connection.connect_info();
    assert_eq!(info.address(), client.get_ref().0.local_addr().unwrap());
    let Transport::Left(stream) = &connection.stream else { panic!("plain text") };
    assert!(stream.get_ref().0.nodelay().unwrap());
}

#[tokio::test]
async fn in_plain_text_a_connection_is_known_bounded_and_not_kept_for_nothing() {
    let bounds = Bounds { handshakes: (0, 0), idle: Duration::from_millis(50), ..with_connections(2, 1) };
    let mut fixture = Fixture::start_in_plain_text(bounds).await;
    let client = TcpStream::connect(fixture.address).await.unwrap();
    let mut first = fixture.next().await;
    assert_eq!(first.connect_info().address(), client.local_addr().unwrap());
    let Transport::Right(stream) = &first.stream else { panic!("TLS") };
    assert!(stream.nodelay().unwrap());
    hung_up(TcpStream::connect(fixture.address).await.unwrap()).await;
    let _other = fixture.elsewhere().await;
    let second = fixture.next().await;
    fixture.counts("krypton_controller_discovery_connections 2");
    fixture.counts(r#"krypton_controller_discovery_refusals_total{reason="connections_of_address"} 1"#);
    assert_eq!(within(first.read_u8()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    fixture.counts(r#"krypton_controller_discovery_refusals_total{reason="idle"} 1"#);
    drop((first, second));
    fixture.counts("krypton_controller_discovery_connections 0");
    let _again = TcpStream::connect(fixture.address).await.unwrap();
    fixture.next().await;
}

#[tokio::test]
async fn each_connection_begins_with_the_newest_certificate_and_keeps_it() {
    let ((old, first), (new, second)) = (mk_config().await, mk_config().await);
    let mut fixture = Fixture::start(None, bounds()).await;
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
async fn who_never_shakes_hands_is_hung_up_on() {
    let bounds = Bounds { handshake: Duration::from_millis(50), ..bounds() };
    let fixture = Fixture::start(Some(mk_config().await.1), bounds).await;
    hung_up(TcpStream::connect(fixture.address).await.unwrap()).await;
}

#[tokio::test]
async fn who_never_shakes_hands_keeps_nobody_of_another_address_out() {
    let (certificate, config) = mk_config().await;
    let bounds = Bounds { handshakes: (3, 2), handshake: DEADLINE * 2, ..bounds() };
    let mut fixture = Fixture::start(Some(config), bounds).await;
    let silent = [
        TcpStream::connect(fixture.address).await.unwrap(),
        TcpStream::connect(fixture.address).await.unwrap(),
    ];
    hung_up(TcpStream::connect(fixture.address).await.unwrap()).await;
    // Twice: what is done is no handshake any more.
    for _ in 0..2 {
        let tcp = fixture.elsewhere().await;
        shake_hands_by(&certificate, tcp).await.unwrap();
        fixture.next().await;
    }
    let _last = fixture.elsewhere().await;
    // Nobody waits behind the bound of all.
    hung_up(fixture.elsewhere().await).await;
    drop(silent);
}

#[tokio::test]
async fn connections_are_bounded_in_number() {
    let (certificate, config) = mk_config().await;
    let bounds = with_connections(2, 1);
    let mut fixture = Fixture::start(Some(config), bounds).await;
    let _client = fixture.connect(&certificate).await.unwrap();
    let first = fixture.next().await;
    hung_up(TcpStream::connect(fixture.address).await.unwrap()).await;
    let tcp = fixture.elsewhere().await;
    let _other = shake_hands_by(&certificate, tcp).await.unwrap();
    let second = fixture.next().await;
    fixture.counts("krypton_controller_discovery_connections 2");
    fixture.counts(r#"krypton_controller_discovery_refusals_total{reason="connections_of_address"} 1"#);
    drop(first);
    fixture.counts("krypton_controller_discovery_connections 1");
    fixture.connect(&certificate).await.unwrap();
    drop(second);
}

/// As a mesh's proxy has them, which is all gateways in one.
#[tokio::test]
async fn an_address_of_this_machine_may_have_more_connections() {
    let bounds = Bounds { connections: (4, 1), of_own_address: 3, ..bounds() };
    let mut fixture = Fixture::start_in_plain_text(bounds).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push((TcpStream::connect(fixture.address).await.unwrap(), fixture.next().await));
    }
    hung_up(TcpStream::connect(fixture.address).await.unwrap()).await;
    fixture.counts(r#"krypton_controller_discovery_refusals_total{reason="connections_of_address"} 1"#);
}

#[tokio::test]
async fn a_connection_on_which_nobody_is_let_in_is_closed() {
    let (certificate, config) = mk_config().await;
    let bounds = Bounds { idle: Duration::from_millis(50), ..bounds() };
    let mut fixture = Fixture::start(Some(config), bounds).await;
    let _client = fixture.connect(&certificate).await.unwrap();
    let mut served = fixture.next().await;
    let let_in = LetIn::new((), served.connect_info());
    let read = timeout(bounds.idle * 4, served.read_u8()).await;
    assert!(read.is_err(), "somebody is");
    drop(let_in);
    assert_eq!(within(served.read_u8()).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(within(served.write_u8(0)).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn the_port_is_free_once_nobody_is_served() {
    let mut fixture = Fixture::start(Some(mk_config().await.1), bounds()).await;
    fixture.connections.close();
    within(async {
        while TcpStream::connect(fixture.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
