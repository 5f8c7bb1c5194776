//! What a certificate says of itself: until when it is valid.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::jiff::Timestamp;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A moment, in seconds since 1970; certificates know no finer time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixSeconds(pub u64);

/// What was read is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate: {0}")]
pub struct CertError(String);

/// A certificate that was read. It may be wrong in all else: nobody's signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cert {
    not_after: UnixSeconds,
}

// === impl UnixSeconds ===

impl UnixSeconds {
    /// As the system's clock has it.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    fn of(time: x509_parser::time::ASN1Time) -> Self {
        Self(u64::try_from(time.timestamp()).unwrap_or(0))
    }
}

impl fmt::Display for UnixSeconds {
    /// As RFC 3339 has it; what lies beyond its years, as a number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let timestamp = i64::try_from(self.0).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        match timestamp {
            Some(timestamp) => write!(f, "{timestamp}"),
            None => write!(f, "{}", self.0),
        }
    }
}

// === impl Cert ===

impl Cert {
    /// Reads `der`.
    pub(crate) fn parse(der: &CertificateDer<'_>) -> Result<Self, CertError> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| CertError(error.to_string()))?;
        if !rest.is_empty() {
            return Err(CertError("something follows it".to_owned()));
        }
        Ok(Self { not_after: UnixSeconds::of(parsed.validity().not_after) })
    }

    /// The last second in which it is valid.
    pub(crate) fn not_after(&self) -> UnixSeconds {
        self.not_after
    }
}
