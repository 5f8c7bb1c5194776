//! A real gateway on a fixed table, agents that do exactly what a test scripts, and clients that show every byte.

pub(crate) mod agent;
pub(crate) mod client;
pub(crate) mod h2;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use krypton_discovery::{
    AppProtocol, Endpoint, EndpointPolicy, InvocationPath, Protocol, Route, Timeouts, UpstreamHost,
    VersionedRoute,
};
use krypton_gateway::balance::MAX_ATTEMPTS;
use krypton_gateway::metrics::Metrics;
use krypton_gateway::proxy::headers::{AllowedHosts, TrustedProxies};
use krypton_gateway::proxy::{Account, CallPolicy, Gateway};
use krypton_gateway::readiness::Readiness;
use krypton_gateway::route_table::{Freshness, RouteTableWriter};
use krypton_gateway::server::{ConnectionLimits, Drain, Server};
use pingora::server::configuration::ServerConf;
use tokio::task::JoinHandle;

/// Longer than anything here takes, shorter than a person waits.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A gateway as its flags would set it up, but for the table.
pub(crate) struct TestGateway {
    pub(crate) address: SocketAddr,
    pub(crate) writer: RouteTableWriter,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) drain: Drain,
    pub(crate) serving: JoinHandle<usize>,
}

/// What a test changes of the ordinary flags.
pub(crate) struct Setup {
    pub(crate) limits: ConnectionLimits,
    pub(crate) policy: CallPolicy,
    pub(crate) drain_timeout: Duration,
    pub(crate) freshness: Freshness,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: ConnectionLimits {
                connections: 1000,
                header: Duration::from_secs(10),
                idle: Duration::from_secs(75),
            },
            policy: CallPolicy {
                trusted_proxies: TrustedProxies::default(),
                allowed_hosts: AllowedHosts::default(),
                connect_timeout: Duration::from_secs(2),
                upload_timeout: Duration::from_mins(1),
                client_write_timeout: Duration::from_mins(1),
                answers_probe: true,
            },
            drain_timeout: Duration::from_mins(1),
            freshness: Freshness::Live,
        }
    }
}

impl Setup {
    /// Starts it with these routes, each `namespace/name`.
    pub(crate) async fn start(self, routes: Vec<(&str, Route)>) -> TestGateway {
        let mut writer = RouteTableWriter::new(EndpointPolicy { allow_loopback: true, deny: vec![] });
        for (key, route) in routes {
            upsert(&mut writer, key, route);
        }
        writer.set_freshness(self.freshness);
        let table = writer.handle();
        let metrics = Arc::new(Metrics::new(table.clone()));
        let drain = Drain::new();
        let readiness = Readiness::default();
        let account = Arc::new(Account::new(Arc::clone(&metrics), None));
        let gateway = Gateway::new(table, self.policy, readiness, drain.clone(), account);
        let conf = ServerConf {
            upstream_keepalive_pool_size: 1024,
            max_retries: MAX_ATTEMPTS,
            ..ServerConf::default()
        };
        let proxy = pingora::proxy::http_proxy(&Arc::new(conf), gateway);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = Server::new(listener, proxy, self.limits, drain.clone(), metrics.connections.clone());
        let address = server.local_addr().expect("an address");
        let serving = spawn(server.run(self.drain_timeout));
        TestGateway { address, writer, metrics, drain, serving }
    }
}

impl TestGateway {
    /// The ordinary gateway with one agent, `ns/agent`.
    pub(crate) async fn with_agent(endpoint: SocketAddr) -> Self {
        Setup::default().start(vec![("ns/agent", mk_route(&[endpoint]))]).await
    }

    /// Puts a route into the table, or changes it.
    pub(crate) fn upsert(&mut self, key: &str, route: Route) {
        upsert(&mut self.writer, key, route);
    }

    /// Waits for the metrics to hold this line.
    pub(crate) async fn await_metric(&self, line: &str) {
        await_that(line, || self.metrics.encode().expect("metrics").lines().any(|have| have == line)).await;
    }

    /// How many calls of this outcome `ns/agent` had.
    pub(crate) fn outcomes(&self, outcome: &str) -> u64 {
        let prefix =
            format!(r#"krypton_outcomes_total{{agent="agent",namespace="ns",outcome="{outcome}"}} "#);
        let encoded = self.metrics.encode().expect("metrics");
        let line = encoded.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map_or(0, |count| count.parse().expect("a number"))
    }

    /// Waits until `ns/agent` had this many calls of this outcome.
    pub(crate) async fn await_outcome(&self, outcome: &str, count: u64) {
        await_that(outcome, || self.outcomes(outcome) == count).await;
    }
}

/// A task that ends with its test.
#[expect(
    clippy::disallowed_methods,
    reason = "the test's runtime ends it, and the test looks at what it does"
)]
pub(crate) fn spawn<F>(task: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(task)
}

fn upsert(writer: &mut RouteTableWriter, key: &str, route: Route) {
    let refused = writer.upsert(VersionedRoute::new(key.parse().expect("a key"), route));
    assert_eq!(refused, []);
}

/// Waits for a state, with a deadline.
pub(crate) async fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(DEADLINE, wait).await.is_ok(), "never came true: {what}");
}

/// A route with ordinary settings to these endpoints.
pub(crate) fn mk_route(endpoints: &[SocketAddr]) -> Route {
    let endpoint = |address: &SocketAddr| Endpoint::new(*address, None).expect("an endpoint");
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
        endpoints: endpoints.iter().map(endpoint).collect(),
    }
}

/// The same with another `timeout`.
pub(crate) fn mk_route_with_timeout(endpoints: &[SocketAddr], timeout: Duration) -> Route {
    let mut route = mk_route(endpoints);
    route.timeouts.timeout = timeout;
    route
}
