//! What a call allocates. Counted in a program of its own, since counting takes the global allocator.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use krypton_discovery::{
    AppProtocol, Endpoint, EndpointPolicy, InvocationPath, Protocol, Route, Timeouts, UpstreamHost,
    VersionedRoute,
};
use krypton_gateway::balance::{self, MAX_ATTEMPTS, Tried};
use krypton_gateway::metrics::Metrics;
use krypton_gateway::path::{self, Target};
use krypton_gateway::proxy::headers::{AllowedHosts, TrustedProxies};
use krypton_gateway::proxy::{Account, CallPolicy, Gateway};
use krypton_gateway::readiness::Readiness;
use krypton_gateway::route_table::{Freshness, RouteTableWriter};
use krypton_gateway::server::{ConnectionLimits, Drain, Server};
use pingora::apps::HttpServerApp as _;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::proxy::{HttpProxy, ProxyHttp, Session, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

/// What a call may allocate on top of an empty proxy. Printed is what it does: this is only to notice a blunder.
const BOUND: u64 = 30;
/// Calls that fill pools and caches before counting.
const WARM_UP: u64 = 50;
/// Calls that are counted.
const COUNTED: u64 = 500;

fn mk_route(endpoints: &[SocketAddr]) -> Route {
    Route {
        protocol: Protocol::Http,
        app_protocol: AppProtocol::Http,
        upstream_host: UpstreamHost::Preserve,
        port: NonZeroU16::new(8080).expect("a port"),
        invocation_path: InvocationPath::default(),
        timeouts: Timeouts {
            timeout: Duration::from_mins(5),
            max_duration: None,
            startup_timeout: Duration::from_secs(30),
        },
        concurrency: None,
        max_standing_streams: 1000,
        service: None,
        scaled_to_zero: false,
        endpoints: endpoints
            .iter()
            .map(|address| Endpoint::new(*address, None).expect("an endpoint"))
            .collect(),
    }
}

fn table_of(endpoints: &[SocketAddr]) -> RouteTableWriter {
    let mut writer = RouteTableWriter::new(EndpointPolicy { allow_loopback: true, deny: vec![] });
    let refused = writer.upsert(VersionedRoute::new("ns/agent".parse().expect("a key"), mk_route(endpoints)));
    assert_eq!(refused, []);
    writer.set_freshness(Freshness::Live);
    writer
}

#[test]
fn split_look_up_and_balancing_allocate_nothing() {
    let endpoints: Vec<SocketAddr> = (1..=4).map(|n| SocketAddr::from(([127, 0, 0, n], 80))).collect();
    let table = table_of(&endpoints).handle();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut picked = 0;
    let mut calls = || {
        for _ in 0..100 {
            let Target::Agent { key, rest, query } = path::split(b"/v1/agents/ns/agent/a%2Fb?c=d") else {
                panic!("a call")
            };
            assert_eq!((rest, query), (&b"/a%2Fb"[..], &b"?c=d"[..]));
            let view = table.get(key).expect("the agent").load();
            let candidates = view.candidates(table.dial_mode(Instant::now()));
            let mut tried = Tried::default();
            while let Some(endpoint) = balance::pick(candidates, &tried, &mut rng) {
                picked += 1;
                tried.insert(endpoint);
                if picked % 3 == 0 {
                    break;
                }
            }
        }
    };
    // What a thread or a table does once.
    calls();
    let info = allocation_counter::measure(calls);
    assert_eq!(info.count_total, 0);
    assert!(picked > 100);
}

#[test]
fn a_whole_call_makes_few_allocations_of_ours() {
    let agent = agent();
    let empty = per_call(|calls| serve_empty(agent, calls));
    let ours = per_call(|calls| serve_gateway(agent, calls));
    println!("allocations of a call: {ours}, of them {empty} in an empty proxy: {} are ours", ours - empty);
    assert!(ours - empty <= BOUND, "{}", ours - empty);
}

/// Allocations of one call: those of many calls less those of few.
fn per_call(serve: impl Fn(u64) -> u64) -> u64 {
    let few = serve(WARM_UP);
    let many = serve(WARM_UP + COUNTED);
    (many - few).div_ceil(COUNTED)
}

/// An agent on a thread of its own, whose allocations are not counted here.
fn agent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut tcp in listener.incoming().flatten() {
            std::thread::spawn(move || {
                while read_until(&mut tcp, b"\r\n\r\n") {
                    tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok();
                }
            });
        }
    });
    address
}

/// A client on a thread of its own, that makes so many calls on one connection and then does `done`.
fn call(gateway: SocketAddr, calls: u64, done: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        let mut tcp = TcpStream::connect(gateway).expect("the gateway accepts");
        for _ in 0..calls {
            tcp.write_all(b"GET /v1/agents/ns/agent/x?y HTTP/1.1\r\nHost: t\r\nAccept: */*\r\n\r\n")
                .expect("the gateway reads");
            assert!(read_until(&mut tcp, b"\r\n\r\nok"), "an answer");
        }
        done();
    });
}

/// Reads on until what was read ends so. Whether it came.
fn read_until(tcp: &mut TcpStream, end: &[u8]) -> bool {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while !read.ends_with(end) {
        match tcp.read(&mut buffer) {
            Ok(0) | Err(_) => return false,
            Ok(count) => read.extend(&buffer[..count]),
        }
    }
    true
}

fn conf() -> Arc<ServerConf> {
    Arc::new(ServerConf { max_retries: MAX_ATTEMPTS, ..ServerConf::default() })
}

/// Runs `serve` on a runtime of this thread alone and counts what it allocates.
fn count(serve: impl Future<Output = ()>) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    allocation_counter::measure(|| runtime.block_on(serve)).count_total
}

fn serve_gateway(agent: SocketAddr, calls: u64) -> u64 {
    count(async move {
        let table = table_of(&[agent]).handle();
        let metrics = Arc::new(Metrics::new(table.clone()));
        let minute = Duration::from_mins(1);
        let policy = CallPolicy {
            trusted_proxies: TrustedProxies::default(),
            allowed_hosts: AllowedHosts::default(),
            connect_timeout: minute,
            upload_timeout: minute,
            client_write_timeout: minute,
            answers_probe: true,
        };
        let drain = Drain::new();
        let account = Arc::new(Account::new(Arc::clone(&metrics), None));
        let gateway = Gateway::new(table, policy, Readiness::default(), drain.clone(), account);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let limits = ConnectionLimits { connections: 10, header: minute, idle: minute };
        let proxy = http_proxy(&conf(), gateway);
        let server = Server::new(listener, proxy, limits, drain.clone(), metrics.connections.clone());
        call(server.local_addr().expect("an address"), calls, move || drain.stop());
        assert_eq!(server.run(minute).await, 0);
    })
}

fn serve_empty(agent: SocketAddr, calls: u64) -> u64 {
    count(async move {
        let proxy: Arc<HttpProxy<Empty>> = Arc::new(http_proxy(&conf(), Empty(agent)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        call(listener.local_addr().expect("an address"), calls, || ());
        let (tcp, _) = listener.accept().await.expect("a client");
        tcp.set_nodelay(true).expect("nodelay");
        let (_draining, watch) = tokio::sync::watch::channel(false);
        let mut stream: Stream = Box::new(L4Stream::from(tcp));
        loop {
            let mut session = ServerSession::new_http1(stream);
            session.set_keepalive(Some(60));
            let Some(reused) = proxy.process_new_http(session, &watch).await else { return };
            stream = reused.consume().0;
        }
    })
}

/// The least that a proxy can be.
struct Empty(SocketAddr);

#[async_trait]
impl ProxyHttp for Empty {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.0, false, String::new())))
    }
}
