//! Start, supervision and end of the gateway: wiring, and nothing else.
//!
//! 1. [`App::bind`] takes both ports, so that a port in use is an error at the start; nothing is accepted yet.
//! 2. [`App::run`] starts discovery, the admin server and the accept loop. The first of them that ends unasked
//!    ends the process with its name.
//! 3. On [`Stop::terminate`]: unready, a while of still accepting, then no new connections, then the end of the
//!    last call. [`Stop::now`] cuts that short.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use krypton_discovery::EndpointPolicy;
use log::LevelFilter;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::access_log::AccessLog;
use crate::admin;
use crate::args::Args;
use crate::balance::MAX_ATTEMPTS;
use crate::discovery::{DiscoveryClient, DiscoveryConfig};
use crate::link::{Credentials, LinkLimits};
use crate::metrics::Metrics;
use crate::proxy::headers::{AllowedHosts, TrustedProxies};
use crate::proxy::{Account, CallPolicy, Gateway};
use crate::readiness::{Condition, Readiness};
use crate::report::{ReportClient, ReportConfig};
use crate::route_table::RouteTableWriter;
use crate::server::{ConnectionLimits, Drain, Server};
use crate::snapshot_file::{self, SnapshotFile};

/// Idle connections to pods that are kept, over all agents: above what one gateway has in flight, since a pool
/// that is too small costs more than twice the CPU.
const UPSTREAM_POOL: usize = 16_384;

/// How long the last access lines may take to be written.
const FLUSH: Duration = Duration::from_secs(2);

/// What single clients and pods do is told by the access log and the metrics, in bounds; Pingora's proxy writes a
/// line for each connection that ends inside a header.
const QUIET: [krypton_logging::Quiet; 2] =
    [("pingora", LevelFilter::Error), ("pingora_proxy", LevelFilter::Off)];

/// A gateway that holds its ports.
pub struct App {
    bound: Bound,
    server: Server,
    admin: TcpListener,
    listening: Condition,
    client: DiscoveryClient,
    report: ReportClient,
    snapshot_file: Option<SnapshotFile>,
    access_log: Option<AccessLog>,
    readiness: Readiness,
    metrics: Arc<Metrics>,
    table: crate::route_table::RouteTableHandle,
    drain: Drain,
    drain_delay: Duration,
    drain_timeout: Duration,
}

/// The real addresses, where port 0 was asked for too.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Where calls come in.
    pub http: SocketAddr,
    /// Where probes and metrics are.
    pub admin: SocketAddr,
}

/// Asks a running gateway to end. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Drain, then end.
    pub terminate: CancellationToken,
    /// End.
    pub now: CancellationToken,
}

// === impl Stop ===

impl Stop {
    /// Catches SIGTERM and SIGINT from now on; the future follows them: the first drains, the second ends at once.
    ///
    /// # Errors
    /// The signals cannot be caught.
    pub fn on_signals(self) -> anyhow::Result<impl Future<Output = Infallible>> {
        let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        Ok(async move {
            for token in [&self.terminate, &self.now] {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                token.cancel();
            }
            std::future::pending().await
        })
    }
}

// === impl App ===

impl App {
    /// Takes the ports and loads the last table, where there is one.
    ///
    /// # Errors
    /// Flags contradict each other, or a port cannot be taken.
    pub async fn bind(args: Args) -> anyhow::Result<Self> {
        let (ca_file, token_file) = (args.discovery_ca_file.clone(), args.discovery_token_file.clone());
        let credentials = Credentials::new(&args.discovery, ca_file, token_file)?;
        let listener = listen(args.listen).await.context("--listen")?;
        let admin = listen(args.admin_listen).await.context("--admin-listen")?;
        let bound = Bound { http: listener.local_addr()?, admin: admin.local_addr()? };

        let readiness = Readiness::default();
        let writer = RouteTableWriter::new(EndpointPolicy {
            allow_loopback: args.allow_loopback_endpoints,
            deny: args.deny_cidrs.clone(),
        });
        let table = writer.handle();
        let metrics = Arc::new(Metrics::new(table.clone()));
        count_panics(&metrics);
        let access_log = args.access_log.then(|| AccessLog::stdout(metrics.access_log_dropped.clone()));
        let listening = readiness.register("listener");
        let node_id = args.node_id.clone().unwrap_or_else(host_name);
        let report = ReportConfig::new(node_id.clone(), credentials.clone());
        let (controller, limits) = (args.discovery.clone(), LinkLimits::default());
        let config = DiscoveryConfig { controller, credentials, node_id, limits };
        let mut client =
            DiscoveryClient::new(config, writer, metrics.discovery.clone(), readiness.register("table"));
        let (holds, leader) = (client.holds(), client.leader());
        let report = ReportClient::new(report, table.clone(), holds, leader, metrics.report.clone());
        let snapshot_file = args.snapshot_file.as_ref().map(|path| {
            match snapshot_file::load(path) {
                Ok(Some(stored)) => client.restore(stored),
                Ok(None) => log::info!(path:% = path.display(); "No snapshot file yet"),
                Err(error) => {
                    log::warn!(path:% = path.display(), error:%; "Snapshot file refused; starting without it");
                }
            }
            SnapshotFile::new(path.clone(), table.clone(), metrics.snapshot_file_failures.clone())
        });

        let drain = Drain::new();
        let account = Account::new(Arc::clone(&metrics), access_log.as_ref().map(AccessLog::sender));
        let gateway =
            Gateway::new(table.clone(), policy(&args), readiness.clone(), drain.clone(), Arc::new(account));
        let (limits, open) = (connection_limits(&args), metrics.connections.clone());
        let server = Server::new(listener, proxy(gateway), limits, drain.clone(), open);
        let (drain_delay, drain_timeout) = (args.drain_delay, args.drain_timeout);
        Ok(Self {
            bound,
            server,
            admin,
            listening,
            client,
            report,
            snapshot_file,
            access_log,
            readiness,
            metrics,
            table,
            drain,
            drain_delay,
            drain_timeout,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// Serves until `stop`, and through the drain.
    ///
    /// # Errors
    /// A part ended unasked.
    pub async fn run(self, stop: Stop) -> anyhow::Result<()> {
        let end = CancellationToken::new();
        let mut parts = JoinSet::new();
        let admin = admin::Admin::new(self.table, Arc::clone(&self.metrics), self.readiness.clone());
        let (listener, asked) = (self.admin, end.clone());
        parts.spawn(async move { ("admin server", admin.serve(listener, asked).await.err()) });
        let (client, asked) = (self.client, end.clone());
        parts.spawn(async move {
            client.run(asked).await;
            ("discovery", None)
        });
        let (report, asked) = (self.report, end.clone());
        parts.spawn(async move {
            report.run(asked).await;
            ("report", None)
        });
        if let Some(file) = self.snapshot_file {
            let asked = end.clone();
            parts.spawn(async move {
                file.run(asked).await;
                ("snapshot file", None)
            });
        }
        let mut server = JoinSet::new();
        server.spawn(self.server.run(self.drain_timeout));
        self.listening.set(true);
        log::info!(http:% = self.bound.http, admin:% = self.bound.admin; "Listening");

        tokio::select! {
            () = stop.terminate.cancelled() => {}
            () = stop.now.cancelled() => {}
            ended = parts.join_next() => return Err(unasked(ended)),
            _ = server.join_next() => anyhow::bail!("the accept loop ended"),
        }
        self.readiness.drain();
        self.drain.begin();
        log::info!(delay:? = self.drain_delay, timeout:? = self.drain_timeout; "Draining");
        stop.now.run_until_cancelled(tokio::time::sleep(self.drain_delay)).await;
        self.drain.stop();
        match stop.now.run_until_cancelled(server.join_next()).await {
            Some(Some(Ok(0))) => log::info!("Drained"),
            Some(Some(Ok(connections))) => log::warn!(connections; "Cut what the drain timeout left"),
            Some(_) => anyhow::bail!("the accept loop failed"),
            None => {
                log::warn!("Asked twice: ending without a drain");
                self.drain.cut();
                tokio::time::timeout(FLUSH, server.join_next()).await.ok();
            }
        }
        server.shutdown().await;
        end.cancel();
        tokio::time::timeout(FLUSH, parts.join_all()).await.ok();
        if let Some(access_log) = self.access_log {
            access_log.close(FLUSH).await;
        }
        Ok(())
    }
}

fn policy(args: &Args) -> CallPolicy {
    CallPolicy {
        trusted_proxies: TrustedProxies::new(args.trusted_proxies.clone()),
        allowed_hosts: AllowedHosts::new(args.allowed_hosts.clone()),
        connect_timeout: args.connect_timeout,
        upload_timeout: args.upload_timeout,
        client_write_timeout: args.client_write_timeout,
        answers_probe: args.probe,
    }
}

fn connection_limits(args: &Args) -> ConnectionLimits {
    ConnectionLimits {
        connections: args.max_connections.get(),
        header: args.header_timeout,
        idle: args.keepalive_timeout,
    }
}

fn proxy(gateway: Gateway) -> HttpProxy<Gateway> {
    let threads = tokio::runtime::Handle::current().metrics().num_workers().max(1);
    let conf = ServerConf {
        // Not how many there will be, but over how many Pingora spreads what waiting connections contend for. It
        // multiplies the pool by it.
        threads,
        upstream_keepalive_pool_size: UPSTREAM_POOL.div_ceil(threads),
        max_retries: MAX_ATTEMPTS,
        ..ServerConf::default()
    };
    http_proxy(&Arc::new(conf), gateway)
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Pingora swallows panics of calls: they would go unseen.
fn count_panics(metrics: &Metrics) {
    let (panics, default) = (metrics.panics.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        panics.inc();
        default(info);
    }));
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "gateway".to_owned(), |name| name.trim().to_owned())
}

fn unasked(
    ended: Option<Result<(&'static str, Option<std::io::Error>), tokio::task::JoinError>>,
) -> anyhow::Error {
    match ended {
        Some(Ok((name, Some(error)))) => anyhow::Error::new(error).context(format!("the {name} failed")),
        Some(Ok((name, None))) => anyhow::anyhow!("the {name} ended"),
        Some(Err(error)) => anyhow::Error::new(error).context("a part of the gateway failed"),
        None => anyhow::anyhow!("no part of the gateway is left"),
    }
}

/// The program: from parsed flags to the end.
///
/// # Errors
/// The gateway could not start, or a part of it ended unasked.
pub fn main(args: Args) -> anyhow::Result<()> {
    krypton_logging::init(&args.log, &QUIET);
    // One descriptor a client and one a pod: the soft limit of 1,024 would be the first to be met.
    rlimit::increase_nofile_limit(u64::MAX).ok();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = args.threads {
        runtime.worker_threads(threads.get());
    }
    runtime.enable_all().build()?.block_on(async {
        let stop = Stop::default();
        let app = App::bind(args).await?;
        let Bound { http, admin } = app.bound();
        let signals = stop.clone().on_signals()?;
        // For whoever asked for port 0, and for scripts that wait.
        println!("listening http={http}\nlistening admin={admin}");
        tokio::select! {
            ended = app.run(stop) => ended,
            never = signals => match never {},
        }
    })
}
