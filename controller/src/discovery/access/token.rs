//! The token that a gateway shows. Never printed: neither whole nor in part.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataMap;

use super::memory::Refusal;
use crate::discovery::incoming::one_line;

/// Bytes of a token. Those of Kubernetes are below 2 KiB.
const MAX_BYTES: usize = 8 << 10;

/// What two clocks of a cluster may differ by.
const SKEW: Duration = Duration::from_mins(1);

/// What a call was made with.
pub(super) struct Token(String);

/// What a token is known by: its SHA-256, so that no token stays in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct TokenKey([u8; 32]);

/// What a token says of itself. It is believed only when the API server believes the token; what it says against itself
/// is believed at once.
#[derive(Deserialize)]
pub(super) struct Claims {
    #[serde(default)]
    aud: Audiences,
    #[serde(default)]
    sub: String,
    exp: Option<f64>,
}

/// One, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    List(Vec<String>),
}

// === impl Token ===

impl Token {
    /// The one in `authorization: Bearer …`, if there is one.
    pub(super) fn of(metadata: &MetadataMap) -> Option<Self> {
        let header = metadata.get("authorization")?.to_str().ok()?;
        let (scheme, token) = header.split_once(' ')?;
        let token = token.trim();
        let is_token = scheme.eq_ignore_ascii_case("bearer") && (1..=MAX_BYTES).contains(&token.len());
        is_token.then(|| Self(token.to_owned()))
    }

    /// For the API server's eyes.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    /// What it is remembered by.
    pub(super) fn key(&self) -> TokenKey {
        TokenKey(Sha256::digest(&self.0).into())
    }

    /// What it says; `None` where it is no JWT, as every service account's is.
    pub(super) fn claims(&self) -> Option<Claims> {
        let payload = self.0.split('.').nth(1)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }
}

// === impl Claims ===

impl Claims {
    /// How long after `now` it says that it lives; `None` if it does not say.
    pub(super) fn life(&self, now: SystemTime) -> Option<Duration> {
        let expires = Duration::try_from_secs_f64(self.exp?).ok()?;
        Some(expires.saturating_sub(now.duration_since(UNIX_EPOCH).ok()?))
    }

    /// Why it cannot be a token for `audience` of one of `accounts`, whatever the API server would say.
    pub(super) fn refusal(&self, audience: &str, accounts: &[String], now: SystemTime) -> Option<Refusal> {
        let is_ours = match &self.aud {
            Audiences::One(one) => one == audience,
            Audiences::List(list) => list.iter().any(|one| one == audience),
        };
        // The API server's clock may be behind ours.
        let has_ended = now.checked_sub(SKEW).and_then(|now| self.life(now)) == Some(Duration::ZERO);
        if !is_ours || has_ended {
            return Some(Refusal::NotAccepted);
        }
        (!accounts.contains(&self.sub)).then(|| Refusal::WrongAccount(one_line(&self.sub)))
    }
}

impl Default for Audiences {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> Option<Token> {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", header.parse().unwrap());
        Token::of(&metadata)
    }

    fn with_payload(payload: &str) -> Token {
        token(&format!("Bearer head.{}.signature", URL_SAFE_NO_PAD.encode(payload))).unwrap()
    }

    #[test]
    fn a_token_is_what_follows_bearer() {
        assert_eq!(token("Bearer a.b.c").unwrap().reveal(), "a.b.c");
        assert_eq!(token("bearer a").unwrap().reveal(), "a");
        for header in ["", "Bearer", "Bearer ", "Basic a", "a.b.c"] {
            assert!(token(header).is_none(), "{header}");
        }
        assert!(token(&format!("Bearer {}", "a".repeat(MAX_BYTES + 1))).is_none());
        assert!(Token::of(&MetadataMap::new()).is_none());
        assert_eq!(format!("{:?}", token("Bearer secret").unwrap()), "Token");
    }

    #[test]
    fn the_end_of_a_token_is_read_from_it() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let life = |payload: &str| with_payload(payload).claims()?.life(now).map(|life| life.as_secs());
        assert_eq!(life(r#"{"aud":["a"],"exp":1600}"#), Some(600));
        assert_eq!(life(r#"{"exp":400}"#), Some(0));
        for payload in ["", "{}", "[]", r#"{"exp":"soon"}"#, r#"{"exp":-1}"#, r#"{"exp":1e300}"#] {
            assert_eq!(life(payload), None, "{payload}");
        }
        assert!(token("Bearer no-jwt").unwrap().claims().is_none());
        assert!(token("Bearer a.!.c").unwrap().claims().is_none());
    }

    #[test]
    fn what_a_token_says_against_itself_is_believed() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let refusal =
            |payload: &str| with_payload(payload).claims().unwrap().refusal("ours", &["me".to_owned()], now);
        for payload in [
            r#"{"aud":["ours"],"sub":"me","exp":1600}"#,
            r#"{"aud":"ours","sub":"me"}"#,
            r#"{"aud":["a","ours"],"sub":"me","exp":950}"#,
        ] {
            assert_eq!(refusal(payload), None, "{payload}");
        }
        for payload in [
            r#"{"sub":"me"}"#,
            r#"{"aud":["a"],"sub":"me","exp":1600}"#,
            r#"{"aud":"a","sub":"me","exp":1600}"#,
            r#"{"aud":["ours"],"sub":"me","exp":900}"#,
        ] {
            assert_eq!(refusal(payload), Some(Refusal::NotAccepted), "{payload}");
        }
        let other = refusal(r#"{"aud":["ours"],"sub":"some\nbody"}"#);
        assert_eq!(other, Some(Refusal::WrongAccount("some?body".to_owned())));
    }

    #[test]
    fn tokens_that_differ_have_keys_that_differ() {
        let key = |header: &str| token(header).unwrap().key();
        assert!(key("Bearer a") == key("bearer a") && key("Bearer a") != key("Bearer b"));
    }
}
