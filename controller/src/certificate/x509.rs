//! What a certificate says of itself: from when until when, for which names, by which key.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::jiff::Timestamp;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
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
    der: CertificateDer<'static>,
    not_before: UnixSeconds,
    not_after: UnixSeconds,
    names: BTreeSet<String>,
    is_authority: bool,
    public_key: Vec<u8>,
}

// === impl UnixSeconds ===

impl UnixSeconds {
    /// As the system's clock has it.
    #[must_use]
    pub fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    }

    /// So much later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span.as_secs()))
    }

    /// So much earlier, 1970 at the earliest.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span.as_secs()))
    }

    /// How long it is from `earlier` until this; zero if that is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(self.0.saturating_sub(earlier.0))
    }

    /// As [`Display`](fmt::Display) writes it; `None` if it is not such a text, or before 1970.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parsed: Timestamp = text.parse().ok()?;
        u64::try_from(parsed.as_second()).ok().map(Self)
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
        let names = parsed.subject_alternative_name().map_err(|error| CertError(error.to_string()))?;
        let names = names.iter().flat_map(|names| &names.value.general_names).map(name).collect();
        Ok(Self {
            not_before: UnixSeconds::of(parsed.validity().not_before),
            not_after: UnixSeconds::of(parsed.validity().not_after),
            names,
            is_authority: parsed.is_ca(),
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
            der: der.clone().into_owned(),
        })
    }

    /// As it is on the wire.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// As text, with a line end at its end.
    pub(crate) fn pem(&self) -> String {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new("CERTIFICATE", self.der.to_vec()), config)
    }

    /// The first second in which it is valid.
    pub(crate) fn not_before(&self) -> UnixSeconds {
        self.not_before
    }

    /// The last second in which it is valid.
    pub(crate) fn not_after(&self) -> UnixSeconds {
        self.not_after
    }

    /// Whether `now` is within its time.
    pub(crate) fn is_valid(&self, now: UnixSeconds) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// DNS names and addresses that it is for; anything else as it is debugged, which is equal to no name.
    pub(crate) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// Whether it may sign others.
    pub(crate) fn is_authority(&self) -> bool {
        self.is_authority
    }

    /// The bits of its public key.
    pub(crate) fn public_key(&self) -> &[u8] {
        &self.public_key
    }
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => (*name).to_owned(),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.map_or_else(|_| format!("{name:?}"), |address| address.to_string())
        }
        other => format!("{other:?}"),
    }
}
