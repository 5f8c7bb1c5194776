//! Wires the parts up, and watches over them.
//!
//! 1. [`App::bind`] takes the ports and opens the source: what can be wrong from the start is wrong here.
//! 2. [`App::run`] runs one task per part. The first that ends unasked ends the process, with its name.
//! 3. A signal stops all of them; a second one does not wait.

mod certificates;
mod indexer;
mod security;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use krypton_discovery::EndpointPolicy;
use kube::Client;
use log::LevelFilter;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::args::Args;
use crate::certificate::Server;
use crate::discovery::{Discovery, Limits};
use crate::index::Index;
use crate::leader::Leader;
use crate::lease::{self, Election, Leadership, LeaseConfig};
use crate::metrics::Metrics;
use crate::object::Scope;
use crate::report::{self, Reports};
use crate::snapshot::Snapshot;
use crate::source::kube::{KubeSource, build_client};
use crate::source::manifests::Manifests;
use crate::source::{EVENT_CAPACITY, Purpose, Sources};
use crate::webhooks::Webhooks;
use certificates::Certificates;

/// The longest that an orderly end may take: a renewal that hangs (2 s), then the release of the Lease (5 s).
const STOP: Duration = Duration::from_secs(8);

/// Dependencies that log each failed try, some with whole objects; the sources log each change of state instead,
/// once.
pub const QUIET: [krypton_logging::Quiet; 3] = [
    ("kube_client::client", LevelFilter::Off),
    ("kube_client::client::auth", LevelFilter::Warn),
    ("kube_runtime::watcher", LevelFilter::Off),
];

/// The controller, ready to run.
pub struct App {
    bound: Bound,
    parts: Vec<(&'static str, Part)>,
    shutdown: CancellationToken,
}

/// Where the controller listens.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// For gateways.
    pub discovery: SocketAddr,
    /// For probes, metrics and people.
    pub admin: SocketAddr,
    /// For the API server's questions, where webhooks are turned on.
    pub webhooks: Option<SocketAddr>,
}

/// Where routes come from.
struct Routes {
    source: Part,
    index: Part,
    sources: Sources,
    /// `None` with a folder.
    client: Option<Client>,
}

type Part = std::pin::Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send>>;

/// Runs the controller as a process: until a signal, or until something goes wrong.
///
/// # Errors
/// When it cannot start, or when a part ends unasked.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let app = App::bind(args, shutdown.clone()).await?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    // Only now: whoever reads this may send a signal at once.
    println!("listening discovery={}", app.bound.discovery);
    println!("listening admin={}", app.bound.admin);
    if let Some(webhooks) = app.bound.webhooks {
        println!("listening webhooks={webhooks}");
    }

    let mut next_signal = async || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let running = app.run();
    tokio::pin!(running);
    tokio::select! {
        result = &mut running => return result,
        signal = next_signal() => log::info!(signal; "Stopping"),
    }
    shutdown.cancel();
    tokio::select! {
        result = running => result,
        signal = next_signal() => bail!("{signal} again: not waiting for an orderly end"),
    }
}

// === impl App ===

impl App {
    /// Takes the ports and opens the source. `shutdown` ends [`App::run`].
    ///
    /// # Errors
    /// Flags that leave discovery open by accident, a port that is taken, a folder that is not there, a kubeconfig that
    /// cannot be used.
    pub async fn bind(args: Args, shutdown: CancellationToken) -> anyhow::Result<Self> {
        security::check(&args)?;
        let (discovery_listener, discovery_bound) = bind("--discovery-listen", args.discovery_listen).await?;
        let (admin_listener, admin_bound) = bind("--admin-listen", args.admin_listen).await?;

        let mut registry = Registry::default();
        let metrics = Arc::new(Metrics::new(&mut registry));
        let (snapshots, newest) = watch::channel(None);
        let routes = Routes::open(&args, snapshots, Arc::clone(&metrics)).await?;
        let (election, leadership) = election(&args, discovery_bound, &metrics).await?;
        let certificates = Certificates::open(&args, routes.client.as_ref(), &leadership, &metrics).await?;
        let webhooks = match certificates.configs(Server::Webhooks) {
            Some(configs) => Some(Webhooks::bind(args.webhook_listen, configs).await?),
            None => None,
        };

        let limits = Limits::default();
        let leading = leadership.leading.clone();
        let reports = Reports::new(leading, limits, Arc::clone(&metrics), shutdown.clone());
        let following = reports.clone().run(newest.clone(), report::SETTLE);
        let leader = leadership.address.clone();
        let discovery = Discovery::new(
            newest.clone(),
            leader,
            reports.clone(),
            security::access(&args, routes.client.as_ref(), limits, &metrics),
            Arc::clone(&metrics),
            limits,
            shutdown.clone(),
        );
        let mut parts = vec![
            ("source", routes.source),
            ("index", routes.index),
            ("reports", endless_part(following)),
            ("election", endless_part(election.run(shutdown.clone()))),
        ];
        if let Some(client) = routes.client {
            let identity = args.identity.clone().unwrap_or_else(lease::host_name);
            let leader = Leader::new(client, args.scopes(), metrics, reports.clone(), identity)
                .behind_ingress(args.ingress_read_timeout);
            parts.push(("leader", endless_part(lead(leadership, leader))));
        }
        let gateways = discovery.gateways().clone();
        let configs = certificates.configs(Server::Discovery);
        parts.extend(certificates.parts);
        let (certificates, registry) = (certificates.states, Arc::new(registry));
        let sources = routes.sources;
        let admin = Admin { snapshots: newest, sources, gateways, reports, certificates, registry };
        parts.push(("discovery", part(discovery.serve(discovery_listener, configs))));
        parts.push(("admin", part(admin.serve(admin_listener, shutdown.clone()))));
        let mut bound = Bound { discovery: discovery_bound, admin: admin_bound, webhooks: None };
        if let Some((webhooks, address)) = webhooks {
            bound.webhooks = Some(address);
            parts.push(("webhooks", endless_part(webhooks.serve(shutdown.clone()))));
        }
        Ok(Self { bound, parts, shutdown })
    }

    /// Where it listens.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.bound
    }

    /// Runs until shutdown.
    ///
    /// # Errors
    /// When a part ends unasked: its name, and why.
    pub async fn run(self) -> anyhow::Result<()> {
        let mut parts = JoinSet::new();
        for (name, part) in self.parts {
            let shutdown = self.shutdown.clone();
            parts.spawn(async move {
                // Servers end by themselves, in order; the source and the index have nothing to finish.
                let result = match name {
                    "discovery" | "admin" | "webhooks" | "election" => part.await,
                    _ => shutdown.run_until_cancelled(part).await.unwrap_or(Ok(())),
                };
                (name, result)
            });
        }
        let supervised = async {
            while let Some(ended) = parts.join_next().await {
                let (name, result) = ended.context("a part panicked")?;
                result.with_context(|| format!("{name} ended"))?;
                if !self.shutdown.is_cancelled() {
                    bail!("{name} ended, which it never should");
                }
            }
            Ok(())
        };
        let overdue = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(STOP).await;
        };
        let result = tokio::select! {
            result = supervised => result,
            () = overdue => Ok(()),
        };
        // Where one part failed the others end in order: the Lease is given away, gateways are told.
        self.shutdown.cancel();
        tokio::time::timeout(STOP, parts.join_all()).await.ok();
        result
    }
}

// === impl Routes ===

impl Routes {
    /// Opens the folder or the way to the Kubernetes API; snapshots go out through `snapshots`.
    async fn open(
        args: &Args,
        snapshots: watch::Sender<Option<Snapshot>>,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let sources = Sources::new(Purpose::Routes, Arc::clone(&metrics));
        let (events, received) = mpsc::channel(EVENT_CAPACITY);
        let policy =
            EndpointPolicy { allow_loopback: args.manifests.is_some(), deny: args.deny_cidrs.clone() };
        let (scopes, source, client) = if let Some(folder) = &args.manifests {
            let source = Manifests::open(folder, policy, events, sources.clone()).context("--manifests")?;
            (vec![Scope::AllNamespaces], part(source.run()), None)
        } else {
            let client = client(args).await?;
            let source = KubeSource::new(client.clone(), args.scopes(), policy, events, sources.clone());
            (args.scopes(), endless_part(source.run()), Some(client))
        };
        let index = Index::new(&scopes);
        let index = endless_part(indexer::run(index, received, snapshots, sources.clone(), metrics));
        Ok(Self { source, index, sources, client })
    }
}

async fn client(args: &Args) -> anyhow::Result<Client> {
    build_client(args.kubeconfig.as_deref()).await.context("no way to the Kubernetes API")
}

/// Who leads: with a folder this controller does, else the holder of the Lease.
async fn election(
    args: &Args,
    discovery: SocketAddr,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Election, Leadership)> {
    let bound = Some(discovery).filter(|bound| !bound.ip().is_unspecified());
    let address = args.advertise_address.clone().or_else(|| bound.map(|bound| bound.to_string()));
    if args.manifests.is_some() {
        return Ok(Election::alone(address, Arc::clone(metrics)));
    }
    let address = address.with_context(|| {
        format!(
            "--advertise-address is missing: --discovery-listen {discovery} does not say where gateways reach this \
             controller while it leads"
        )
    })?;
    let config = LeaseConfig::new(
        args.lease_namespace.clone(),
        args.lease_name.clone(),
        args.identity.clone(),
        address,
    );
    // A client of its own: renewals do not wait behind other calls.
    Ok(Election::new(client(args).await?, config, Arc::clone(metrics)))
}

/// Works in each term of this controller.
async fn lead(leadership: Leadership, leader: Leader) {
    leadership.in_each_term(|term| leader.lead(term)).await;
}

fn part<E: Into<anyhow::Error>>(future: impl Future<Output = Result<(), E>> + Send + 'static) -> Part {
    Box::pin(async { future.await.map_err(Into::into) })
}

fn endless_part(future: impl Future<Output = ()> + Send + 'static) -> Part {
    Box::pin(async {
        future.await;
        Ok(())
    })
}

async fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("{flag} {address} cannot be listened on"))?;
    let bound = listener.local_addr().with_context(|| format!("{flag} {address}"))?;
    Ok((listener, bound))
}

#[cfg(test)]
mod tests;
