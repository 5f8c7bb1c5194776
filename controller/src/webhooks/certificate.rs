//! A certificate that webhooks or discovery show: read from files, followed when they change.
//!
//! Owns the newest usable TLS configuration. A pair that cannot be used (half written, not fitting each other) leaves
//! the one before in use. The files are compared by content every few seconds: a mounted Secret changes by a symbolic
//! link two folders up, which no watch over the files would see.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_rustls::rustls;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// As Secrets of type `kubernetes.io/tls` name them.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Bytes of one file: what a Secret holds.
const MAX_FILE: u64 = 1 << 20;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// A file is no PEM of what it should hold.
    #[error("{0}: {1}")]
    Pem(PathBuf, pem::Error),
    /// There is no certificate in the file.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// The certificate and the key cannot be used together.
    #[error("{CERTIFICATE} and {KEY} in {0} cannot be used: {1}")]
    Unusable(PathBuf, rustls::Error),
}

/// Both files as they are.
#[derive(PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    /// HTTP/1.1 alone: what the API server speaks to webhooks, so that its connections spread over the replicas.
    Webhooks,
    /// HTTP/2 alone: gRPC.
    Discovery,
}

/// A certificate in use, and the files it came from.
pub(crate) struct Certificate {
    folder: PathBuf,
    usage: Usage,
    provider: Arc<CryptoProvider>,
    /// What the configuration was made from.
    pair: Pair,
    leaf: CertificateDer<'static>,
    configs: watch::Sender<Option<Arc<ServerConfig>>>,
    /// What the log knows already.
    told_error: Option<String>,
    told_expired: bool,
}

// === impl Usage ===

impl Usage {
    fn protocol(self) -> &'static [u8] {
        match self {
            Self::Webhooks => b"http/1.1",
            Self::Discovery => b"h2",
        }
    }

    /// For the log.
    fn name(self) -> &'static str {
        match self {
            Self::Webhooks => "webhooks",
            Self::Discovery => "discovery",
        }
    }
}

// === impl Certificate ===

impl Certificate {
    /// Reads the files in `folder`.
    pub(crate) async fn load(folder: &Path, usage: Usage) -> Result<Self, CertificateError> {
        let provider = Arc::new(ring::default_provider());
        let pair = read(folder).await?;
        let (leaf, config) = build(folder, usage, &provider, &pair)?;
        let mut certificate = Self {
            folder: folder.to_owned(),
            usage,
            provider,
            pair,
            leaf,
            configs: watch::Sender::new(Some(config)),
            told_error: None,
            told_expired: false,
        };
        certificate.tell_expiry(UnixTime::now());
        Ok(certificate)
    }

    /// The configuration for the next connection.
    pub(crate) fn configs(&self) -> watch::Receiver<Option<Arc<ServerConfig>>> {
        self.configs.subscribe()
    }

    /// Looks at the files every `period`, for ever.
    pub(crate) async fn follow(mut self, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.reload().await {
                Ok(true) => {
                    let (usage, folder) = (self.usage.name(), self.folder.display());
                    log::info!(usage, folder:%; "Certificate was replaced");
                }
                Ok(false) => {}
                Err(error) => self.tell_error(&error),
            }
            self.tell_expiry(UnixTime::now());
        }
    }

    /// Takes the files up if they changed; whether they did.
    async fn reload(&mut self) -> Result<bool, CertificateError> {
        let pair = read(&self.folder).await?;
        if pair == self.pair {
            self.told_error = None;
            return Ok(false);
        }
        let (leaf, config) = build(&self.folder, self.usage, &self.provider, &pair)?;
        self.configs.send_replace(Some(config));
        (self.pair, self.leaf, self.told_error, self.told_expired) = (pair, leaf, None, false);
        Ok(true)
    }

    fn tell_error(&mut self, error: &CertificateError) {
        let error = error.to_string();
        if self.told_error.as_ref() != Some(&error) {
            let usage = self.usage.name();
            log::warn!(usage, error; "Certificate cannot be read; the one before stays in use");
            self.told_error = Some(error);
        }
    }

    fn tell_expiry(&mut self, now: UnixTime) {
        if !self.told_expired && is_expired(&self.leaf, &self.provider, now) {
            let (usage, folder) = (self.usage.name(), self.folder.display());
            log::warn!(usage, folder:%; "Certificate has expired; it is refused until it is renewed");
            self.told_expired = true;
        }
    }
}

impl std::fmt::Debug for Certificate {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("folder", &self.folder).finish_non_exhaustive()
    }
}

async fn read(folder: &Path) -> Result<Pair, CertificateError> {
    Ok(Pair { certificate: read_file(folder, CERTIFICATE).await?, key: read_file(folder, KEY).await? })
}

async fn read_file(folder: &Path, name: &str) -> Result<Vec<u8>, CertificateError> {
    let path = folder.join(name);
    let mut content = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(&path).await?;
        file.take(MAX_FILE).read_to_end(&mut content).await
    };
    match read.await {
        Ok(_) => Ok(content),
        Err(error) => Err(CertificateError::Read(path, error)),
    }
}

/// The leaf and a configuration that shows it.
fn build(
    folder: &Path,
    usage: Usage,
    provider: &Arc<CryptoProvider>,
    pair: &Pair,
) -> Result<(CertificateDer<'static>, Arc<ServerConfig>), CertificateError> {
    let no_pem = |name: &str| {
        let path = folder.join(name);
        move |error| CertificateError::Pem(path, error)
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pair.certificate)
        .collect::<Result<_, _>>()
        .map_err(no_pem(CERTIFICATE))?;
    let Some(leaf) = chain.first().cloned() else {
        return Err(CertificateError::Empty(folder.join(CERTIFICATE)));
    };
    let key = PrivateKeyDer::from_pem_slice(&pair.key).map_err(no_pem(KEY))?;
    let config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key));
    let mut config = config.map_err(|error| CertificateError::Unusable(folder.to_owned(), error))?;
    config.alpn_protocols = vec![usage.protocol().to_vec()];
    Ok((leaf, Arc::new(config)))
}

/// Whether its time is over. Asked of the verifier that clients use, with nobody to trust: it says so before it says
/// that nobody is trusted.
fn is_expired(leaf: &CertificateDer<'_>, provider: &CryptoProvider, now: UnixTime) -> bool {
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else { return false };
    let algorithms = provider.signature_verification_algorithms.all;
    let verified =
        verify_server_cert_signed_by_trust_anchor(&leaf, &RootCertStore::empty(), &[], now, algorithms);
    matches!(
        verified,
        Err(rustls::Error::InvalidCertificate(
            rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. }
        ))
    )
}

#[cfg(test)]
pub(crate) mod tests;
