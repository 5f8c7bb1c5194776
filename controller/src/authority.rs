//! The controllers' own certificate authority, where there is no other: only the leader's.
//!
//! Owns what is in one Secret (the certificate that every replica shows, and the keys), one ConfigMap (what gateways
//! trust) and the `caBundle`s of one name's webhook configurations (what the API server trusts). All of them were made
//! by somebody else: the leader fills what is there, and never creates or deletes. Why there is an authority of our
//! own: `docs/decisions/0012-own-certificate-authority.md`.
//!
//! 1. Each object is followed by its name, so that what somebody empties is filled again at once.
//! 2. [`plan`](mod@plan) says what to write next; [`material`] reads what is there and makes keys.
//! 3. Every write names the version that it is based on, and is made under the term: two leaders cannot mix.

mod calls;
mod material;
mod plan;
mod trust;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use futures::stream::{BoxStream, select_all};
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use krypton_crd::keys;
use kube::{Api, Client, ResourceExt as _};
use tokio::time::Instant;

use crate::certificate::UnixSeconds;
use crate::lease::Term;
use crate::reconcile::api::CallError;
use crate::source::kube::single::{Sight, follow};
use crate::source::kube::watch::Pauses;
use calls::Calls;
use material::{Published, Stored};
use plan::{Deed, Step, plan};
use trust::Configuration;

/// Writes in a row: the first start takes three. More mean that somebody else writes the opposite.
const MAX_WRITES: usize = 6;

/// The longest time between two looks: a clock may be set. What becomes of the objects is seen at once.
const LOOK: Duration = Duration::from_hours(1);

/// Which objects, and for which names.
#[derive(Debug, Clone)]
pub struct AuthorityConfig {
    /// Where the Secret and the ConfigMap are.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The ConfigMap.
    pub config_map: String,
    /// DNS names and addresses by which gateways and the API server reach the controllers.
    pub names: BTreeSet<String>,
    /// Both webhook configurations; unset where there are none to look after.
    pub webhooks: Option<String>,
}

/// The work, the same for every term.
#[derive(Clone)]
pub struct Authority {
    client: Client,
    config: AuthorityConfig,
}

/// Why the work stopped for now.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    /// A write failed.
    #[error("{0} cannot be written: {1}")]
    Write(String, CallError),
    /// No key or certificate could be made.
    #[error("no certificate can be made: {0}")]
    Make(#[from] rcgen::Error),
    /// What was written was undone at once, or asked for again.
    #[error("what is written does not stay")]
    Restless,
}

/// What is known of an object.
#[derive(Clone)]
enum Known<K> {
    /// Nothing yet.
    Unknown,
    Absent,
    There(K),
}

/// News of one.
enum News {
    Secret(Sight<Secret>),
    ConfigMap(Sight<ConfigMap>),
    Mutating(Sight<MutatingWebhookConfiguration>),
    Validating(Sight<ValidatingWebhookConfiguration>),
}

/// The state of one term.
struct Work<'a> {
    config: &'a AuthorityConfig,
    calls: Calls,
    secret: Known<Secret>,
    config_map: Known<ConfigMap>,
    mutating: Known<MutatingWebhookConfiguration>,
    validating: Known<ValidatingWebhookConfiguration>,
    pauses: Pauses,
    /// What the log knows already.
    told: BTreeSet<String>,
}

// === impl Authority ===

impl Authority {
    /// The work on the objects of `config`.
    #[must_use]
    pub fn new(client: Client, config: AuthorityConfig) -> Self {
        Self { client, config }
    }

    /// Works for one term, at whose end it is dropped: every single write leaves what the next leader can go on with.
    pub async fn lead(&self, term: Term) -> Infallible {
        let work = Work {
            config: &self.config,
            calls: Calls::new(self.client.clone(), term),
            secret: Known::Unknown,
            config_map: Known::Unknown,
            mutating: Known::Unknown,
            validating: Known::Unknown,
            pauses: Pauses::default(),
            told: BTreeSet::new(),
        };
        work.run(self.news()).await
    }

    fn news(&self) -> impl Stream<Item = News> + Unpin + use<> {
        let (client, config) = (&self.client, &self.config);
        let own = |name: &str| (client.clone(), config.namespace.clone(), name.to_owned());
        let (client, namespace, name) = own(&config.secret);
        let secrets = follow(Api::namespaced(client, &namespace), &name).map(News::Secret).boxed();
        let (client, namespace, name) = own(&config.config_map);
        let config_maps = follow(Api::namespaced(client, &namespace), &name).map(News::ConfigMap).boxed();
        let mut news: Vec<BoxStream<'static, News>> = vec![secrets, config_maps];
        if let Some(name) = &config.webhooks {
            let all = || self.client.clone();
            news.push(follow(Api::all(all()), name).map(News::Mutating).boxed());
            news.push(follow(Api::all(all()), name).map(News::Validating).boxed());
        }
        select_all(news)
    }
}

// === impl Known ===

impl<K> Known<K> {
    fn there(&self) -> Option<&K> {
        match self {
            Self::There(object) => Some(object),
            Self::Unknown | Self::Absent => None,
        }
    }

    /// Takes `sight` in; what there is to tell about it.
    fn take(&mut self, sight: Sight<K>) -> Option<String> {
        match sight {
            Sight::There(object) => *self = Self::There(object),
            Sight::Absent => *self = Self::Absent,
            Sight::Failed(error) => return Some(error),
        }
        None
    }
}

// === impl Work ===

impl Work<'_> {
    async fn run(mut self, mut news: impl Stream<Item = News> + Unpin) -> Infallible {
        loop {
            let again = self.look().await;
            tokio::select! {
                Some(news) = news.next() => self.take(news),
                () = tokio::time::sleep_until(again) => {}
            }
        }
    }

    fn take(&mut self, news: News) {
        let (what, error) = match news {
            News::Secret(sight) => (self.secret_name(), self.secret.take(sight)),
            News::ConfigMap(sight) => (self.config_map_name(), self.config_map.take(sight)),
            News::Mutating(sight) => (self.webhooks_name("Mutating"), self.mutating.take(sight)),
            News::Validating(sight) => (self.webhooks_name("Validating"), self.validating.take(sight)),
        };
        if let Some(error) = error {
            self.tell(&format!("{what} cannot be read: {error}"));
        }
    }

    /// Does what there is to do; when to look again.
    async fn look(&mut self) -> Instant {
        match self.work().await {
            Ok(again) => {
                self.pauses = Pauses::default();
                Instant::now() + again
            }
            Err(error) => {
                // Somebody was faster: what they wrote is on its way here.
                let conflict = matches!(&error, WorkError::Write(_, CallError::Kube(kube::Error::Api(status)))
                    if status.code == 409);
                if !conflict {
                    self.tell(&error.to_string());
                }
                Instant::now() + self.pauses.next()
            }
        }
    }

    /// Writes until there is nothing to write; for how long.
    async fn work(&mut self) -> Result<Duration, WorkError> {
        for _ in 0..MAX_WRITES {
            let (Some(secret), Some(config_map)) = (self.secret.there(), self.config_map.there()) else {
                self.tell_missing();
                return Ok(LOOK);
            };
            let now = UnixSeconds::now();
            let stored = Stored::read(&secret.data.clone().unwrap_or_default());
            let since = config_map.annotations().get(keys::PUBLISHED_ANNOTATION);
            let published =
                Published::read(&config_map.data.clone().unwrap_or_default(), since.map(String::as_str));
            let plan = plan(&stored, &published, &self.config.names, now)?;
            match plan.step {
                Step::Publish { since } => self.publish(&plan.bundle, since).await?,
                // Who is to trust is told first; but a webhook that cannot be helped must not keep gateways away.
                Step::Store(next, deed) => {
                    let trusted = self.trust(&plan.bundle).await;
                    self.store(&next, deed).await?;
                    trusted?;
                }
                Step::Rest => {
                    self.trust(&plan.bundle).await?;
                    self.told.clear();
                    return Ok(plan.again.since(now).min(LOOK));
                }
            }
        }
        Err(WorkError::Restless)
    }

    async fn publish(&mut self, bundle: &str, since: UnixSeconds) -> Result<(), WorkError> {
        let Some(config_map) = self.config_map.there() else { return Ok(()) };
        let written = self.calls.publish(config_map, bundle, since).await;
        let written = written.map_err(|error| WorkError::Write(self.config_map_name(), error))?;
        self.config_map = Known::There(written);
        log::info!(config_map = self.config.config_map, since:% = since; "Published the certificate authorities to be trusted");
        Ok(())
    }

    async fn store(&mut self, stored: &Stored, deed: Deed) -> Result<(), WorkError> {
        let Some(secret) = self.secret.there() else { return Ok(()) };
        let written = self.calls.store(secret, stored).await;
        let written = written.map_err(|error| WorkError::Write(self.secret_name(), error))?;
        self.secret = Known::There(written);
        let secret = &self.config.secret;
        let expires = stored.leaf.as_ref().map(|leaf| leaf.cert.not_after()).unwrap_or_default();
        match deed {
            Deed::MadeAuthority => {
                log::info!(secret; "Made a certificate authority; it signs once it is published");
            }
            Deed::ChangedAuthority => {
                log::info!(secret, expires:% = expires; "The new certificate authority signs from now on");
            }
            Deed::RenewedLeaf => {
                log::info!(secret, expires:% = expires; "Renewed the controllers' certificate");
            }
            Deed::DroppedKey => {
                log::warn!(secret; "What the certificate authority signs is not accepted; it will be replaced");
            }
        }
        Ok(())
    }

    /// Tells the API server whom to trust.
    async fn trust(&mut self, bundle: &str) -> Result<(), WorkError> {
        if bundle.is_empty() {
            return Ok(());
        }
        let what = self.webhooks_name("Mutating");
        trust_one(&self.calls, &mut self.mutating, bundle, what).await?;
        let what = self.webhooks_name("Validating");
        trust_one(&self.calls, &mut self.validating, bundle, what).await
    }

    fn tell_missing(&mut self) {
        let missing = [
            (matches!(self.secret, Known::Absent), self.secret_name()),
            (matches!(self.config_map, Known::Absent), self.config_map_name()),
        ];
        for (_, what) in missing.into_iter().filter(|(absent, _)| *absent) {
            self.tell(&format!("{what} does not exist; whoever installs the controller makes it, empty"));
        }
    }

    /// Says `problem`, once until all is well.
    fn tell(&mut self, problem: &str) {
        if self.told.insert(problem.to_owned()) {
            log::warn!(error = problem; "The controllers' certificate cannot be looked after");
        }
    }

    fn secret_name(&self) -> String {
        format!("Secret {}/{}", self.config.namespace, self.config.secret)
    }

    fn config_map_name(&self) -> String {
        format!("ConfigMap {}/{}", self.config.namespace, self.config.config_map)
    }

    fn webhooks_name(&self, kind: &str) -> String {
        format!("{kind}WebhookConfiguration {}", self.config.webhooks.as_deref().unwrap_or_default())
    }
}

async fn trust_one<K: Configuration>(
    calls: &Calls,
    known: &mut Known<K>,
    bundle: &str,
    what: String,
) -> Result<(), WorkError> {
    let Some(configuration) = known.there() else { return Ok(()) };
    let Some(patch) = trust::patch(configuration, bundle) else { return Ok(()) };
    let name = configuration.name_any();
    let written = calls.trust::<K>(&name, &patch).await;
    *known = Known::There(written.map_err(|error| WorkError::Write(what, error))?);
    log::info!(kind:% = K::kind(&()), name; "Told the API server which certificate authorities to trust");
    Ok(())
}
