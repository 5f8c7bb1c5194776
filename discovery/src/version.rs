//! The version of one resource.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// Bytes of a version on the wire. Half a SHA-256: two different routes of one Agent with the same version
/// would need about 2^64 tries, and nothing but a stale route would be won.
const VERSION_BYTES: usize = 16;

/// What a route says, hashed. Every controller that computes the same route computes the same version, so that
/// a gateway may resume with any of them, and after any restart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version([u8; VERSION_BYTES]);

/// A version on the wire is not 16 bytes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("version has {0} bytes, expected 16")]
pub struct VersionError(pub usize);

// === impl Version ===

impl Version {
    /// The version of a resource with this canonical encoding.
    pub(crate) fn of(encoded: &[u8]) -> Self {
        let digest = Sha256::digest(encoded);
        let mut version = [0; VERSION_BYTES];
        version.copy_from_slice(&digest[..VERSION_BYTES]);
        Self(version)
    }

    /// The bytes that travel.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Version {
    type Error = VersionError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self).map_err(|_| VersionError(bytes.len()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
