//! What a gateway writes, checked, cut to a bounded length and made one line before any of it is logged, kept or
//! sent back.

use krypton_discovery::wire::{HeldResource, RejectedResource};
use krypton_discovery::{AgentKey, AgentKeyError, Version, VersionError};
use tonic::Status;

/// Bytes of a name or a reason that a gateway gives us.
pub(crate) const MAX_TEXT_BYTES: usize = 512;

/// What a gateway wrote is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IncomingError {
    #[error("{0}")]
    Key(#[from] AgentKeyError),
    #[error("{key}: {error}")]
    Version { key: AgentKey, error: VersionError },
}

/// Why a stream ended. The gateway is told only what it does not know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the gateway left")]
    Left,
    #[error("the stream broke: {}", .0.message())]
    Broken(Status),
    #[error("{}", .0.message())]
    Refused(Status),
}

// === impl End ===

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// A resource that it holds.
pub(crate) fn held(held: &HeldResource) -> Result<(AgentKey, Version), IncomingError> {
    let key = key(&held.name)?;
    match Version::try_from(held.version.as_slice()) {
        Ok(version) => Ok((key, version)),
        Err(error) => Err(IncomingError::Version { key, error }),
    }
}

/// A resource that it refuses, and why. Of which version is not looked at.
pub(crate) fn rejected(rejected: &RejectedResource) -> Result<(AgentKey, String), IncomingError> {
    Ok((key(&rejected.name)?, one_line(&rejected.reason)))
}

/// The error repeats the name, so it is cut first; what is longer than a key stays so.
pub(crate) fn key(name: &str) -> Result<AgentKey, IncomingError> {
    Ok(cut(name).parse()?)
}

/// A text that cannot pass for a line of its own in the log.
pub(crate) fn one_line(text: &str) -> String {
    cut(text).replace(char::is_control, "?")
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_writes_stays_in_its_line() {
        assert_eq!(one_line("port: no\r\n\u{1b}[31mERROR"), "port: no???[31mERROR");
    }

    #[test]
    fn what_a_gateway_writes_is_cut() {
        let endless = "ä".repeat(1 << 20);
        let refused =
            |name: &str| RejectedResource { name: name.into(), reason: endless.clone(), version: vec![] };
        assert!(rejected(&refused("ns/a")).unwrap().1.len() <= MAX_TEXT_BYTES);
        let holds = HeldResource { name: endless.clone(), version: vec![0; 16] };
        for error in [rejected(&refused(&endless)).unwrap_err(), held(&holds).unwrap_err()] {
            let text = error.to_string();
            assert!(text.len() < 2 * MAX_TEXT_BYTES, "{} bytes", text.len());
        }
    }
}
