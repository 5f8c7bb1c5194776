//! The controllers' own certificate authority, where there is no other: only the leader's.
//!
//! Owns what is in one Secret (the certificate that every replica shows, and the keys), one ConfigMap (what gateways
//! trust) and the `caBundle`s of one name's webhook configurations (what the API server trusts). All of them were made
//! by somebody else: the leader fills what is there, and never creates or deletes. Why there is an authority of our
//! own: `docs/decisions/0012-own-certificate-authority.md`.
//!
//! 1. Each object is followed by its name, so that what somebody empties is filled again at once.
//! 2. [`plan`](mod@plan) says what to write next; [`material`] reads what is there and makes keys.
//! 3. What somebody else undoes is written again at once the first time, then every 30 s at most ([`followed`]). What
//!    waits so, or cannot be written, keeps nothing else from being written.
//! 4. Every write names the version that it is based on, and is made under the term: two leaders cannot mix.

mod calls;
mod followed;
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
use followed::{Followed, Told};
use material::{Published, Stored};
use plan::{Deed, Step, Writable, plan};
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

/// When to look again at an object, or why it could not be written.
type Outcome = Result<Duration, WorkError>;

/// What came of one look.
#[derive(Default)]
struct Outcomes {
    /// Unset while nothing was left undone.
    secret: Option<Outcome>,
    config_map: Option<Outcome>,
    /// Of the webhook configurations, from the last time that they were seen to.
    webhooks: Option<[Outcome; 2]>,
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
    secret: Followed<Secret>,
    config_map: Followed<ConfigMap>,
    mutating: Followed<MutatingWebhookConfiguration>,
    validating: Followed<ValidatingWebhookConfiguration>,
    pauses: Pauses,
    /// What the log knows that is about no single object.
    told: Told,
}

/// When to look again.
enum Again {
    /// Then, or when there is news.
    At(Instant),
    /// Then and no sooner: something failed.
    NotBefore(Instant),
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
        let calls = Calls::new(self.client.clone(), Some(term));
        // It holds four objects: too much for the stack of whoever leads.
        Box::pin(Work::new(&self.config, calls).run(self.news())).await
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

// === impl Work ===

impl<'a> Work<'a> {
    fn new(config: &'a AuthorityConfig, calls: Calls) -> Self {
        let AuthorityConfig { namespace, secret, config_map, webhooks, .. } = config;
        let webhooks = webhooks.as_deref().unwrap_or_default();
        Self {
            config,
            calls,
            secret: Followed::new(format!("Secret {namespace}/{secret}")),
            config_map: Followed::new(format!("ConfigMap {namespace}/{config_map}")),
            mutating: Followed::new(format!("MutatingWebhookConfiguration {webhooks}")),
            validating: Followed::new(format!("ValidatingWebhookConfiguration {webhooks}")),
            pauses: Pauses::default(),
            told: Told::default(),
        }
    }

    async fn run(mut self, mut news: impl Stream<Item = News> + Unpin) -> Infallible {
        loop {
            let again = self.look().await;
            let (Again::At(moment) | Again::NotBefore(moment)) = again;
            loop {
                tokio::select! {
                    Some(news) = news.next() => {
                        self.take(news);
                        if matches!(again, Again::At(_)) {
                            break;
                        }
                    }
                    () = tokio::time::sleep_until(moment) => break,
                }
            }
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Secret(sight) => self.secret.take(sight),
            News::ConfigMap(sight) => self.config_map.take(sight),
            News::Mutating(sight) => self.mutating.take(sight),
            News::Validating(sight) => self.validating.take(sight),
        }
    }

    /// Does what there is to do; when to look again.
    async fn look(&mut self) -> Again {
        let mut outcomes = Outcomes::default();
        let (mut soonest, mut failed) = (LOOK, false);
        let work = self.work(&mut outcomes).await;
        for outcome in outcomes.all().chain([work]) {
            match outcome {
                Ok(again) => soonest = soonest.min(again),
                Err(error) => {
                    failed = true;
                    self.tell(&error);
                }
            }
        }
        if failed {
            return Again::NotBefore(Instant::now() + self.pauses.next());
        }
        self.pauses = Pauses::default();
        self.told.clear();
        Again::At(Instant::now() + soonest)
    }

    fn tell(&mut self, error: &WorkError) {
        match error {
            // Somebody was faster: what they wrote is on its way here.
            WorkError::Write(_, CallError::Kube(kube::Error::Api(status))) if status.code == 409 => {}
            WorkError::Write(..) => {
                self.secret.tell_unwritten(error);
                self.config_map.tell_unwritten(error);
                self.mutating.tell_unwritten(error);
                self.validating.tell_unwritten(error);
            }
            WorkError::Make(_) | WorkError::Restless => self.told.tell(error.to_string()),
        }
    }

    /// Writes until there is nothing more that can be written; for how long. `outcomes` says what was left undone.
    async fn work(&mut self, outcomes: &mut Outcomes) -> Outcome {
        for _ in 0..MAX_WRITES {
            let (Some(secret), Some(config_map)) = (self.secret.there(), self.config_map.there()) else {
                return Ok(LOOK);
            };
            let now = UnixSeconds::now();
            let stored = Stored::read(&secret.data.clone().unwrap_or_default());
            let since = config_map.annotations().get(keys::PUBLISHED_ANNOTATION);
            let published =
                Published::read(&config_map.data.clone().unwrap_or_default(), since.map(String::as_str));
            let plan = plan(&stored, &published, &self.config.names, now, outcomes.writable())?;
            match plan.step {
                Step::Publish { since } => {
                    outcomes.config_map = self.publish(&plan.bundle, since).await.transpose();
                }
                // Else the API server would meet what it was not told to trust.
                Step::Store(_, Deed::ChangedAuthority) if !self.knows_webhooks() => {
                    outcomes.secret = Some(Ok(LOOK));
                }
                // Who is to trust is told first; but a webhook that cannot be helped must not keep gateways away.
                Step::Store(next, deed) => {
                    self.trust(&plan.bundle, outcomes).await;
                    outcomes.secret = self.store(&next, deed).await.transpose();
                }
                Step::Rest => {
                    self.trust(&plan.bundle, outcomes).await;
                    return Ok(plan.again.since(now));
                }
            }
        }
        Err(WorkError::Restless)
    }

    /// Whether the webhook configurations were looked for, where there are any to look after.
    fn knows_webhooks(&self) -> bool {
        self.config.webhooks.is_none() || (self.mutating.was_looked_for() && self.validating.was_looked_for())
    }

    /// Writes the ConfigMap, unless it has to wait: then for how long.
    async fn publish(&mut self, bundle: &str, since: UnixSeconds) -> Result<Option<Duration>, WorkError> {
        let wait = self.config_map.wait(Instant::now());
        let Some(config_map) = self.config_map.there().filter(|_| wait.is_none()) else { return Ok(wait) };
        let written = self.calls.publish(config_map, bundle, since).await;
        self.config_map.wrote(written, Instant::now())?;
        log::info!(config_map = self.config.config_map, since:% = since;
            "Published the certificate authorities to be trusted");
        Ok(None)
    }

    /// Writes the Secret, unless it has to wait: then for how long.
    async fn store(&mut self, stored: &Stored, deed: Deed) -> Result<Option<Duration>, WorkError> {
        let wait = self.secret.wait(Instant::now());
        let Some(secret) = self.secret.there().filter(|_| wait.is_none()) else { return Ok(wait) };
        let written = self.calls.store(secret, stored).await;
        self.secret.wrote(written, Instant::now())?;
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
        Ok(None)
    }

    /// Tells the API server whom to trust, unless that failed in this look.
    async fn trust(&mut self, bundle: &str, outcomes: &mut Outcomes) {
        let has_failed = outcomes.webhooks.iter().flatten().any(Result::is_err);
        if bundle.is_empty() || has_failed {
            return;
        }
        // One that cannot be written is no reason to leave the other as it is.
        let mutating = trust_one(&self.calls, &mut self.mutating, bundle).await;
        let validating = trust_one(&self.calls, &mut self.validating, bundle).await;
        outcomes.webhooks = Some([mutating, validating]);
    }
}

// === impl Outcomes ===

impl Outcomes {
    /// What was left undone is not tried again in the same look.
    fn writable(&self) -> Writable {
        Writable { secret: self.secret.is_none(), config_map: self.config_map.is_none() }
    }

    fn all(self) -> impl Iterator<Item = Outcome> {
        self.secret.into_iter().chain(self.config_map).chain(self.webhooks.into_iter().flatten())
    }
}

async fn trust_one<K: Configuration>(
    calls: &Calls,
    followed: &mut Followed<K>,
    bundle: &str,
) -> Result<Duration, WorkError> {
    let Some(configuration) = followed.there() else { return Ok(LOOK) };
    let Some(patch) = trust::patch(configuration, bundle) else { return Ok(LOOK) };
    let name = configuration.name_any();
    if let Some(wait) = followed.wait(Instant::now()) {
        return Ok(wait);
    }
    followed.wrote(calls.trust::<K>(&name, &patch).await, Instant::now())?;
    log::info!(kind:% = K::kind(&()), name; "Told the API server which certificate authorities to trust");
    Ok(LOOK)
}

#[cfg(test)]
mod tests;
