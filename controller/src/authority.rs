//! The controllers' own certificate authority, where there is no other: only the leader's.
//!
//! Owns what is in one Secret (the certificate that every replica shows, and the keys), one ConfigMap (what gateways
//! trust) and the `caBundle`s of one name's webhook configurations (what the API server trusts). All of them were made
//! by somebody else: the leader fills what is there, and never creates or deletes. Why there is an authority of our
//! own: `docs/decisions/0012-own-certificate-authority.md`.
//!
//! 1. Each object is followed by its name, so that what somebody empties is filled again at once.
//! 2. [`plan`](mod@plan) says what to write next; [`material`] reads what is there and makes keys.
//! 3. What somebody else undoes is written again at once the first time, then every 30 s at most ([`followed`]).
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
        match self.work().await {
            Ok(again) => {
                self.pauses = Pauses::default();
                Again::At(Instant::now() + again)
            }
            Err(error) => {
                self.tell(&error);
                Again::NotBefore(Instant::now() + self.pauses.next())
            }
        }
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

    /// Writes until there is nothing to write; for how long.
    async fn work(&mut self) -> Result<Duration, WorkError> {
        for _ in 0..MAX_WRITES {
            let (Some(secret), Some(config_map)) = (self.secret.there(), self.config_map.there()) else {
                return Ok(LOOK);
            };
            let now = UnixSeconds::now();
            let stored = Stored::read(&secret.data.clone().unwrap_or_default());
            let since = config_map.annotations().get(keys::PUBLISHED_ANNOTATION);
            let published =
                Published::read(&config_map.data.clone().unwrap_or_default(), since.map(String::as_str));
            let plan = plan(&stored, &published, &self.config.names, now)?;
            match plan.step {
                Step::Publish { since } => {
                    if let Some(wait) = self.config_map.wait(Instant::now()) {
                        return Ok(wait);
                    }
                    self.publish(&plan.bundle, since).await?;
                }
                // Else the API server would meet what it was not told to trust.
                Step::Store(_, Deed::ChangedAuthority) if !self.knows_webhooks() => return Ok(LOOK),
                // Who is to trust is told first; but a webhook that cannot be helped must not keep gateways away.
                Step::Store(next, deed) => {
                    let trusted = self.trust(&plan.bundle).await;
                    if let Some(wait) = self.secret.wait(Instant::now()) {
                        return trusted.map(|soonest| soonest.min(wait));
                    }
                    self.store(&next, deed).await?;
                    trusted?;
                }
                Step::Rest => {
                    let soonest = self.trust(&plan.bundle).await?;
                    self.told.clear();
                    return Ok(plan.again.since(now).min(soonest));
                }
            }
        }
        Err(WorkError::Restless)
    }

    /// Whether the webhook configurations were looked for, where there are any to look after.
    fn knows_webhooks(&self) -> bool {
        self.config.webhooks.is_none() || (self.mutating.was_looked_for() && self.validating.was_looked_for())
    }

    async fn publish(&mut self, bundle: &str, since: UnixSeconds) -> Result<(), WorkError> {
        let Some(config_map) = self.config_map.there() else { return Ok(()) };
        let written = self.calls.publish(config_map, bundle, since).await;
        self.config_map.wrote(written, Instant::now())?;
        log::info!(config_map = self.config.config_map, since:% = since;
            "Published the certificate authorities to be trusted");
        Ok(())
    }

    async fn store(&mut self, stored: &Stored, deed: Deed) -> Result<(), WorkError> {
        let Some(secret) = self.secret.there() else { return Ok(()) };
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
        Ok(())
    }

    /// Tells the API server whom to trust; when to look again, at the latest.
    async fn trust(&mut self, bundle: &str) -> Result<Duration, WorkError> {
        if bundle.is_empty() {
            return Ok(LOOK);
        }
        // One that cannot be written is no reason to leave the other as it is.
        let mutating = trust_one(&self.calls, &mut self.mutating, bundle).await;
        let validating = trust_one(&self.calls, &mut self.validating, bundle).await;
        Ok(mutating?.min(validating?))
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
