//! Who may listen: gateways show a service account token, and the API server says whose it is.
//!
//! Owns the questions to the API server, in bounds of number and time, and the words of a refusal. Decides when a stream
//! is opened and never later: a stream that is open goes on when its token ends. Never keeps, logs or sends back a token.
//!
//! 1. [`Access::check`] takes the token from a call (module `token`).
//! 2. What it says against itself decides at once, and so does what is known of it (module `memory`, pure).
//! 3. Else a `TokenReview` is made, one for all calls with that token, as far as the budget goes (module `budget`, pure):
//!    the token must be for [`AUDIENCE`], which the API server's own is not, and of one of the accounts that may listen.

mod budget;
mod memory;
mod token;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use krypton_discovery::is_dns_label;
use kube::Client;
use kube::api::{Api, PostParams};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout_at;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::incoming::one_line;
use super::places::Places;
use super::refused::{Refused, Teller};
use crate::metrics::Metrics;
use crate::seldom::Seldom;
use crate::source::kube::sentence;
use budget::Budget;
use memory::{Answer, Memory, Refusal, Unanswered, Verdict};
use token::{Claims, Token, TokenKey};

/// What a token must be for. The API server itself takes none that is for this alone.
pub const AUDIENCE: &str = "krypton-discovery";

/// Questions to the API server at one time.
const ASKING: usize = 8;

/// Calls of one address that wait at one time. A gateway has two.
const WAITING_OF_ADDRESS: usize = 8;

/// How long one may take, with the wait for its turn. A gateway waits longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who may listen. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access(Option<Arc<Gate>>);

/// A service account, `NAMESPACE/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountName {
    namespace: String,
    name: String,
}

/// It is not `NAMESPACE/NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a service account as NAMESPACE/NAME, e.g. krypton-system/krypton-gateway")]
pub struct NoServiceAccount;

#[derive(Debug)]
struct Gate {
    reviews: Api<TokenReview>,
    /// Their names as users.
    accounts: Vec<String>,
    memory: Mutex<Memory>,
    budget: Mutex<Budget>,
    /// Calls that wait for an answer.
    waiting: Places,
    asking: Semaphore,
    teller: Teller,
    told: Seldom<&'static str>,
    /// For an answer, the wait for its turn included.
    patience: Duration,
}

// === impl ServiceAccountName ===

impl ServiceAccountName {
    /// What the API server calls it as a user.
    fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

impl FromStr for ServiceAccountName {
    type Err = NoServiceAccount;

    fn from_str(text: &str) -> Result<Self, NoServiceAccount> {
        let (namespace, name) = text.split_once('/').ok_or(NoServiceAccount)?;
        let is_name = name.len() <= 253 && name.split('.').all(|part| is_dns_label(part.as_bytes()));
        if is_name && is_dns_label(namespace.as_bytes()) {
            return Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() });
        }
        Err(NoServiceAccount)
    }
}

// === impl Access ===

impl Access {
    /// Everybody may: nobody is asked.
    #[must_use]
    pub fn open() -> Self {
        Self(None)
    }

    /// Only these may. At most `waiting` calls wait for the API server at one time.
    #[must_use]
    pub fn only(
        accounts: &[ServiceAccountName],
        client: Client,
        waiting: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self::patient(accounts, client, Places::new(waiting, WAITING_OF_ADDRESS), PATIENCE, metrics)
    }

    fn patient(
        accounts: &[ServiceAccountName],
        client: Client,
        waiting: Places,
        patience: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Some(Arc::new(Gate {
            reviews: Api::all(client),
            accounts: accounts.iter().map(ServiceAccountName::user).collect(),
            memory: Mutex::default(),
            budget: Mutex::new(Budget::new(Instant::now())),
            waiting,
            asking: Semaphore::new(ASKING),
            teller: Teller::new(metrics),
            told: Seldom::default(),
            patience,
        })))
    }

    /// Whether a call with `metadata` from `address` may go on.
    ///
    /// # Errors
    /// What the caller is told: `UNAUTHENTICATED` without a token that counts, `PERMISSION_DENIED` with that of another
    /// account, `UNAVAILABLE` while nobody can be asked.
    pub(super) async fn check(
        &self,
        metadata: &MetadataMap,
        address: Option<SocketAddr>,
    ) -> Result<(), Status> {
        let Some(gate) = &self.0 else { return Ok(()) };
        let (verdict, why) = gate.judge(Token::of(metadata), address).await;
        let Some(status) = status(&verdict) else { return Ok(()) };
        if gate.told.is_due(verdict.kind(), Instant::now()) {
            let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
            let (reason, detail) = (status.message(), why.as_deref().unwrap_or_default());
            log::warn!(address = address.as_str(), reason, detail; "Who asks for routes may not have them");
        }
        Err(status)
    }
}

// === impl Gate ===

impl Gate {
    /// The verdict, and what the API server said to it.
    async fn judge(&self, token: Option<Token>, address: Option<SocketAddr>) -> (Verdict, Option<String>) {
        let Some(token) = token else { return (Verdict::Refused(Refusal::NoToken), None) };
        let Some(claims) = token.claims() else { return (Verdict::Refused(Refusal::NotAccepted), None) };
        if let Some(refusal) = claims.refusal(AUDIENCE, &self.accounts, SystemTime::now()) {
            return (Verdict::Refused(refusal), None);
        }
        let key = token.key();
        let known = self.memory.lock().await.look_up(&key, Instant::now());
        if let Some(verdict) = known {
            return (verdict, None);
        }
        self.inquire(&token, &claims, address).await
    }

    /// Asks, unless somebody else does so already about the same token: then that answer counts.
    async fn inquire(
        &self,
        token: &Token,
        claims: &Claims,
        address: Option<SocketAddr>,
    ) -> (Verdict, Option<String>) {
        let (key, by) = (token.key(), tokio::time::Instant::now() + self.patience);
        let ip = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        let asking = async {
            let place = self.waiting.take(ip);
            let _place = place
                .map_err(|_| (Some(Refused::Questions), "too many wait for the API server".to_owned()))?;
            let turn = self.memory.lock().await.turn(key);
            let _turn = timeout_at(by, turn.lock()).await.map_err(|_| (None, late()))?;
            let known = self.memory.lock().await.look_up(&key, Instant::now());
            if let Some(verdict) = known {
                return Ok((verdict, None));
            }
            if !self.budget.lock().await.take(ip, Instant::now()) {
                return Err((Some(Refused::Questions), "too many questions to the API server".to_owned()));
            }
            let status = timeout_at(by, self.ask(token)).await.map_err(|_| (None, late()))?;
            let status = status.map_err(|error| (None, error))?;
            let why = status.error.as_deref().map(one_line);
            Ok((self.settle(key, Ok(self.read(status)), claims).await, why))
        };
        let (refused, error) = match asking.await {
            Ok(judged) => return judged,
            Err(unanswered) => unanswered,
        };
        if let Some(refused) = refused {
            self.teller.refused(refused, address);
        }
        (self.settle(key, Err(Unanswered), claims).await, Some(one_line(&error)))
    }

    async fn settle(&self, key: TokenKey, answer: Result<Answer, Unanswered>, claims: &Claims) -> Verdict {
        let (life, now) = (claims.life(SystemTime::now()), Instant::now());
        self.memory.lock().await.settle(key, answer, life, now)
    }

    /// What the API server says of `token`, or why it says nothing.
    async fn ask(&self, token: &Token) -> Result<TokenReviewStatus, String> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: Some(token.reveal().to_owned()),
            },
            ..TokenReview::default()
        };
        let _turn = self.asking.acquire().await.map_err(|error| error.to_string())?;
        let answer = self.reviews.create(&PostParams::default(), &review).await;
        answer.map_err(|error| sentence(&error))?.status.ok_or_else(|| "a review without status".to_owned())
    }

    /// An API server that knows no audiences gives none back: its word is not about ours then.
    fn read(&self, status: TokenReviewStatus) -> Answer {
        let is_ours = status.audiences.iter().flatten().any(|audience| audience == AUDIENCE);
        if status.authenticated != Some(true) || !is_ours {
            return Err(Refusal::NotAccepted);
        }
        let user = status.user.and_then(|user| user.username).unwrap_or_default();
        if self.accounts.contains(&user) { Ok(()) } else { Err(Refusal::WrongAccount(one_line(&user))) }
    }
}

fn late() -> String {
    "the API server does not answer in time".to_owned()
}

/// What the caller is told; `None` if it may go on.
fn status(verdict: &Verdict) -> Option<Status> {
    Some(match verdict {
        Verdict::Welcome => return None,
        Verdict::Refused(Refusal::NoToken) => Status::unauthenticated(format!(
            "no token: start the gateway with --discovery-token-file, a projected service account token with the \
             audience {AUDIENCE}"
        )),
        Verdict::Refused(Refusal::NotAccepted) => Status::unauthenticated(format!(
            "the API server does not accept this token: it must be a service account's, with the audience \
             {AUDIENCE}, and its pod must exist"
        )),
        Verdict::Refused(Refusal::WrongAccount(user)) => Status::permission_denied(format!(
            "{user} may not listen: the controller's --gateway-service-account names who may"
        )),
        Verdict::Unknown => {
            Status::unavailable("the API server cannot be asked whose token this is; try again")
        }
    })
}

#[cfg(test)]
mod tests;
