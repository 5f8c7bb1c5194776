//! Leadership: of all controllers, one writes.
//!
//! Owns one Lease, and who of us holds it. Never knows what a leader does: it tells of terms, and waits for the
//! end of what runs under them. Why there is a loop of our own: `docs/decisions/0008-own-lease-loop.md`.
//!
//! 1. `election` says what to do next; it has every rule, and neither a clock nor I/O.
//! 2. [`Election::run`] tells it the time on a clock that nobody can set, makes the calls that it asks for
//!    (`api`), and reports how they ended. `bell` makes it read at once when the Lease changes.
//! 3. What it decides goes out as [`Leadership`]. A term that ends is cancelled first of all.
//! 4. At the end the Lease is emptied, when the tasks of the last term are over.

mod api;
mod bell;
mod election;
mod pace;
mod record;
mod term;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use krypton_discovery::is_dns_label;
use kube::{Api, Client};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use api::{Done, LeaseApi};
use election::{Candidate, GIVE_UP, Role, Step, Why};
use record::Moment;
use term::Publisher;

pub use term::{Hold, Leadership, Term};

/// Name of the Lease, unless it is told another.
pub const LEASE_NAME: &str = "krypton-controller";

/// The namespace where there is neither a flag nor a pod.
pub const DEFAULT_NAMESPACE: &str = "krypton-system";

/// Where a pod finds its own namespace.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Leader tasks that take longer to end than this are told of: until then nobody can follow by a release.
const OVERDUE: Duration = Duration::from_secs(10);

/// The longest host name of DNS.
const MAX_HOST: usize = 253;

/// Which Lease, and who wants it.
#[derive(Debug, Clone)]
pub struct LeaseConfig {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// What the Lease calls this process: no other may ever have been called so.
    pub identity: String,
    /// Where gateways reach this controller while it leads, as `host:port`.
    pub address: String,
}

/// This controller's part in the election, ready to run.
pub struct Election {
    mode: Mode,
    publisher: Publisher,
}

enum Mode {
    /// There is nobody else.
    Alone { address: Option<String> },
    /// Whoever holds the Lease leads.
    Lease { client: Client, config: LeaseConfig },
}

/// An election under way.
struct Electing {
    config: LeaseConfig,
    candidate: Candidate,
    publisher: Publisher,
    api: LeaseApi,
    /// The newest Lease that was answered.
    base: Option<Lease>,
    call: Option<Pin<Box<dyn Future<Output = Done> + Send>>>,
    start: Instant,
    stopping: bool,
    /// The last thing told about each, so that a change is told once.
    role: Role,
    leader: Option<String>,
    failing: bool,
    /// When the tasks of the term that ended are overdue; unset if none ended, and once told.
    overdue: Option<Moment>,
}

// === impl LeaseConfig ===

impl LeaseConfig {
    /// The Lease `name`. Without a `namespace` it is in the pod's own. `identity`, or else the host's name, gets a
    /// random suffix: a container that was restarted must not take its predecessor's Lease for its own.
    #[must_use]
    pub fn new(namespace: Option<String>, name: String, identity: Option<String>, address: String) -> Self {
        let namespace = namespace_or_own(namespace);
        let identity = identity.unwrap_or_else(host_name);
        let identity = format!("{identity}_{:08x}", fastrand::u32(..));
        Self { namespace, name, identity, address }
    }
}

// === impl Election ===

impl Election {
    /// For the Lease of `config`. `client` must not repeat calls on its own; one that nobody else uses has no
    /// connection that others have worn out.
    #[must_use]
    pub fn new(client: Client, config: LeaseConfig, metrics: Arc<Metrics>) -> (Self, Leadership) {
        let (publisher, leadership) = Publisher::new(metrics);
        (Self { mode: Mode::Lease { client, config }, publisher }, leadership)
    }

    /// Without a Lease: this controller leads until it stops. `address` is where gateways reach it, where that is known.
    #[must_use]
    pub fn alone(address: Option<String>, metrics: Arc<Metrics>) -> (Self, Leadership) {
        let (publisher, leadership) = Publisher::new(metrics);
        (Self { mode: Mode::Alone { address }, publisher }, leadership)
    }

    /// Takes part until `shutdown`, then ends the term, waits for its tasks, and empties the Lease. Dropped before,
    /// it ends the term and leaves the Lease to run out.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { mode, mut publisher } = self;
        match mode {
            Mode::Alone { address } => {
                // As good as for ever: tokio takes timers of about two years at most.
                publisher.leads(1, Instant::now() + Duration::from_hours(24 * 365));
                publisher.set_address(address.as_deref());
                shutdown.cancelled().await;
                publisher.set_address(None);
                publisher.ends();
                publisher.tasks_ended().await;
            }
            Mode::Lease { client, config } => {
                let api = Api::namespaced(client, &config.namespace);
                let bell = Notify::new();
                let (name, identity) = (config.name.clone(), config.identity.clone());
                let electing = Electing::new(api.clone(), config, publisher);
                tokio::select! {
                    () = electing.run(&bell, &shutdown) => {}
                    never = bell::listen(api, &name, &identity, &bell) => match never {},
                }
            }
        }
    }
}

// === impl Electing ===

impl Electing {
    fn new(api: Api<Lease>, config: LeaseConfig, publisher: Publisher) -> Self {
        let candidate = Candidate::new(config.identity.clone(), config.address.clone(), fastrand::u64(..));
        Self {
            api: LeaseApi::new(api, config.name.clone()),
            config,
            candidate,
            publisher,
            base: None,
            call: None,
            start: Instant::now(),
            stopping: false,
            role: Role::Standby,
            leader: None,
            failing: false,
            overdue: None,
        }
    }

    async fn run(mut self, bell: &Notify, shutdown: &CancellationToken) {
        loop {
            let now = self.now();
            let step = self.candidate.step(now, Timestamp::now().as_microsecond());
            self.publish(now);
            let until = match step {
                Step::Call(call) => {
                    self.call = Some(Box::pin(self.api.clone().perform(call, self.base.clone())));
                    continue;
                }
                Step::Wait(until) => self.start + until.since_start(),
                Step::End => return,
            };
            let ending = matches!(self.role, Role::Ending(_));
            tokio::select! {
                // An answer first: the process may have been stopped while it was there, and it may be what keeps
                // the term.
                biased;
                done = answered(&mut self.call) => self.take(done),
                () = shutdown.cancelled(), if !self.stopping => {
                    self.stopping = true;
                    self.candidate.stop(self.now());
                }
                () = self.publisher.tasks_ended(), if ending => self.candidate.tasks_ended(),
                () = bell.notified() => self.candidate.rung(),
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    fn now(&self) -> Moment {
        Moment::new(self.start.elapsed())
    }

    fn take(&mut self, done: Done) {
        self.call = None;
        if let Some(lease) = done.lease {
            self.base = Some(lease);
        }
        match done.error {
            Some(error) if !self.failing => {
                log::warn!(lease = self.config.name, namespace = self.config.namespace, error;
                    "Lease cannot be read or written; while nobody leads, Agents get neither pods nor a status. Its \
                     namespace must exist; --lease-namespace names another");
                self.failing = true;
            }
            None if self.failing => {
                log::info!(lease = self.config.name, namespace = self.config.namespace; "Lease can be read and written again");
                self.failing = false;
            }
            _ => {}
        }
        let now = self.now();
        self.candidate.answered(now, done.answer);
    }

    /// Makes known what changed: first of all that a term has ended.
    fn publish(&mut self, now: Moment) {
        let role = self.candidate.role();
        match role {
            Role::Leading { term, claimed } => {
                self.publisher.leads(term, self.start + (claimed + GIVE_UP).since_start());
                if !matches!(self.role, Role::Leading { .. }) {
                    log::info!(term, identity = self.config.identity; "Leading");
                }
            }
            Role::Ending(why) => {
                self.publisher.ends();
                if self.role != role {
                    log_end(why);
                    self.overdue = Some(now + OVERDUE);
                }
                if self.overdue.is_some_and(|overdue| now >= overdue) {
                    log::error!(
                        "Tasks of the last term do not end; this controller cannot lead again before"
                    );
                    self.overdue = None;
                }
            }
            Role::Standby => self.overdue = None,
        }
        self.role = role;
        let holder = self.candidate.holder(now);
        self.publisher.set_address(holder.and_then(|(_, address)| address));
        let other = holder.map(|(holder, _)| holder).filter(|holder| *holder != self.config.identity);
        if self.leader.as_deref() != other {
            if let Some(leader) = other {
                log::info!(leader; "Another controller leads");
            }
            self.leader = other.map(str::to_owned);
        }
    }
}

fn log_end(why: Why) {
    match why {
        Why::NotRenewed => log::warn!("Leading no longer: the Lease could not be renewed in time"),
        Why::Taken => log::warn!("Leading no longer: the Lease shows another holder, or none"),
        Why::Stopping => log::info!("Leading no longer: stopping"),
    }
}

async fn answered(call: &mut Option<Pin<Box<dyn Future<Output = Done> + Send>>>) -> Done {
    match call {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

/// Whether `text` is a `host:port` to dial: a name of DNS or an IP address, and a port above 0.
#[must_use]
pub fn is_address(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.port() != 0 && !address.ip().is_unspecified();
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let labels = || host.split('.').map(str::to_ascii_lowercase);
    // Digits only: `parse` would take a sign.
    port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port != 0)
        && host.len() <= MAX_HOST
        && labels().all(|label| is_dns_label(label.as_bytes()))
        // What looks like an IPv4 address and is none.
        && labels().next_back().is_some_and(|label| !label.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `namespace`, or else the pod's own, or else [`DEFAULT_NAMESPACE`].
pub(crate) fn namespace_or_own(namespace: Option<String>) -> String {
    namespace.or_else(pod_namespace).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

fn pod_namespace() -> Option<String> {
    let namespace = std::fs::read_to_string(POD_NAMESPACE).ok()?;
    Some(namespace.trim().to_owned()).filter(|namespace| is_dns_label(namespace.as_bytes()))
}

pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "controller".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests;
