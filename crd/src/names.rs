//! The name of an Agent, checked once.
//!
//! Every child of an Agent bears the Agent's name, its Service too, and a Service name is a DNS label that starts
//! with a letter (RFC 1035). The Go system let any object name through; those that are no such label could never run
//! there, since their Service was refused. So they are refused when they are created, with a sentence that says why.

use std::fmt;

use crate::agent::Agent;

/// What an Agent's name looks like, as a regular expression for the schema. [`AgentName::parse`] says the same.
pub const AGENT_NAME_PATTERN: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";

/// The longest DNS label, RFC 1035 §2.3.4.
pub const MAX_NAME_BYTES: usize = 63;

/// A DNS subdomain (RFC 1123), as a regular expression for the schema. [`is_subdomain`] says the same.
pub(crate) const SUBDOMAIN_PATTERN: &str =
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// The longest name of most Kubernetes objects.
pub(crate) const MAX_SUBDOMAIN_BYTES: usize = 253;

/// The name of an Agent: a DNS label that starts with a letter, e.g. `travel-agent`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentName(String);

/// Why a name cannot be an Agent's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// `metadata.name` is absent.
    #[error("metadata.name is missing")]
    Missing,
    /// The name is longer than [`MAX_NAME_BYTES`].
    #[error(
        "metadata.name has {0} characters; an Agent's name has at most {MAX_NAME_BYTES}, as its Service bears it"
    )]
    TooLong(usize),
    /// The name has a character, a start or an end that a Service name may not have.
    #[error(
        "metadata.name {0:?} cannot name a Service: it must start with a letter, end with a letter or digit and have \
         only a-z, 0-9 and '-' between"
    )]
    NotALabel(String),
}

// === impl AgentName ===

impl AgentName {
    /// Checks `name`.
    ///
    /// # Errors
    /// When it is empty, longer than [`MAX_NAME_BYTES`], or not of the form [`AGENT_NAME_PATTERN`].
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if name.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong(name.chars().count()));
        }
        let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
        match name.as_bytes() {
            [] => Err(NameError::Missing),
            [b'a'..=b'z', rest @ ..] if rest.iter().all(|b| inner(*b)) && rest.last() != Some(&b'-') => {
                Ok(Self(name.to_owned()))
            }
            _ => Err(NameError::NotALabel(name.to_owned())),
        }
    }

    /// The name as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Agent ===

impl Agent {
    /// The Agent's name, if it can name a Service. [`Agent::from_value`] lets others pass, so that their owner can be
    /// told in the status.
    ///
    /// # Errors
    /// As [`AgentName::parse`].
    pub fn agent_name(&self) -> Result<AgentName, NameError> {
        AgentName::parse(self.metadata.name.as_deref().unwrap_or_default())
    }
}

/// Whether `text` is a DNS label of RFC 1123, which may start with a digit: how containers are called.
pub(crate) fn is_label(text: &str) -> bool {
    text.len() <= MAX_NAME_BYTES && is_label_of_any_length(text)
}

/// Whether `text` is a DNS subdomain: how Secrets and ServiceAccounts are called.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN_BYTES && text.split('.').all(is_label_of_any_length)
}

fn is_label_of_any_length(text: &str) -> bool {
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_the_schema_takes_is_a_name_unless_it_is_too_long(name in AGENT_NAME_PATTERN.trim_matches(['^', '$'])) {
            prop_assert_eq!(AgentName::parse(&name).is_ok(), name.len() <= MAX_NAME_BYTES);
        }
    }

    proptest! {
        #[test]
        fn what_the_schema_takes_is_a_subdomain_unless_it_is_too_long(
            name in SUBDOMAIN_PATTERN.trim_matches(['^', '$']),
        ) {
            prop_assert_eq!(is_subdomain(&name), name.len() <= MAX_SUBDOMAIN_BYTES);
        }
    }

    #[test]
    fn subdomains_are_labels_between_dots() {
        assert!(is_subdomain("registry.example-1.com") && is_subdomain("1") && is_label("1a"));
        for name in ["", ".", "a.", "-a", "a.-b", "A", "a_b", "a b", &"a".repeat(254)] {
            assert!(!is_subdomain(name) && !is_label(name), "{name}");
        }
        assert!(!is_label("a.b") && !is_label(&"a".repeat(64)));
    }

    #[test]
    fn labels_that_start_with_a_letter_are_names() {
        for name in ["a", "travel-agent", "a1", "a--b", &"a".repeat(63)] {
            assert_eq!(AgentName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_a_service_cannot_be_called_is_refused() {
        for name in ["1a", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", "a/b", "a\n"] {
            assert_eq!(AgentName::parse(name), Err(NameError::NotALabel(name.to_owned())));
        }
        assert_eq!(AgentName::parse(""), Err(NameError::Missing));
        assert_eq!(AgentName::parse(&"a".repeat(64)), Err(NameError::TooLong(64)));
    }
}
