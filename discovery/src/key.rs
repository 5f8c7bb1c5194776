//! The name of an Agent, which is the name of its route.

use std::fmt;
use std::sync::Arc;

/// The longest DNS label, RFC 1123 §2.1.
const MAX_LABEL_BYTES: usize = 63;

/// `{namespace}/{name}` of an Agent, both DNS labels. Cheap to clone; equal, hashed and ordered as its text, so
/// that a map of keys is searched with a borrowed `&str`.
#[derive(Clone)]
pub struct AgentKey {
    /// `namespace/name` in one string: what the gateway cuts out of a path and looks up as it stands.
    joined: Arc<str>,
    /// Where the slash stands.
    slash: usize,
}

/// Why a string is not an [`AgentKey`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentKeyError {
    /// The namespace is not a DNS label.
    #[error("namespace {0:?} is not a DNS label (1 to 63 of a-z, 0-9 and '-', not at an end)")]
    Namespace(String),
    /// The name is not a DNS label.
    #[error("name {0:?} is not a DNS label (1 to 63 of a-z, 0-9 and '-', not at an end)")]
    Name(String),
    /// There is no slash between namespace and name.
    #[error("{0:?} is not of the form namespace/name")]
    NoSlash(String),
}

/// Whether `label` is a DNS label as Kubernetes writes them: RFC 1123 in lower case, e.g. `my-agent`.
#[must_use]
pub fn is_dns_label(label: &[u8]) -> bool {
    let inner = |b: &u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=MAX_LABEL_BYTES).contains(&label.len())
        && label.iter().all(inner)
        && label.first() != Some(&b'-')
        && label.last() != Some(&b'-')
}

// === impl AgentKey ===

impl AgentKey {
    /// The key of Agent `name` in `namespace`.
    ///
    /// # Errors
    /// Names the part that is not a DNS label.
    pub fn new(namespace: &str, name: &str) -> Result<Self, AgentKeyError> {
        if !is_dns_label(namespace.as_bytes()) {
            return Err(AgentKeyError::Namespace(namespace.to_owned()));
        }
        if !is_dns_label(name.as_bytes()) {
            return Err(AgentKeyError::Name(name.to_owned()));
        }
        Ok(Self { joined: format!("{namespace}/{name}").into(), slash: namespace.len() })
    }

    /// `namespace/name`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.joined
    }

    /// The Agent's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.joined[..self.slash]
    }

    /// The Agent's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.joined[self.slash + 1..]
    }
}

impl std::str::FromStr for AgentKey {
    type Err = AgentKeyError;

    fn from_str(joined: &str) -> Result<Self, Self::Err> {
        let (namespace, name) =
            joined.split_once('/').ok_or_else(|| AgentKeyError::NoSlash(joined.to_owned()))?;
        Self::new(namespace, name)
    }
}

impl PartialEq for AgentKey {
    fn eq(&self, other: &Self) -> bool {
        self.joined == other.joined
    }
}

impl Eq for AgentKey {}

impl PartialOrd for AgentKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AgentKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.joined.cmp(&other.joined)
    }
}

impl std::hash::Hash for AgentKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.joined.hash(state);
    }
}

impl std::borrow::Borrow<str> for AgentKey {
    fn borrow(&self) -> &str {
        &self.joined
    }
}

impl fmt::Display for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined)
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_parts() {
        let key: AgentKey = "team-a/my-agent".parse().unwrap();
        assert_eq!((key.namespace(), key.name(), key.as_str()), ("team-a", "my-agent", "team-a/my-agent"));
    }

    #[test]
    fn what_is_no_dns_label_is_refused_by_part() {
        for bad in ["", "A", "a_b", "-a", "a-", "a.b", "ä", &"a".repeat(64)] {
            assert_eq!(AgentKey::new(bad, "ok"), Err(AgentKeyError::Namespace(bad.to_owned())));
            assert_eq!(AgentKey::new("ok", bad), Err(AgentKeyError::Name(bad.to_owned())));
        }
        assert!(AgentKey::new(&"a".repeat(63), "0").is_ok());
        assert_eq!("plain".parse::<AgentKey>(), Err(AgentKeyError::NoSlash("plain".to_owned())));
        assert_eq!("a/b/c".parse::<AgentKey>(), Err(AgentKeyError::Name("b/c".to_owned())));
    }
}
