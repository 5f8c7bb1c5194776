//! The certificates that this controller's servers show: where each comes from, and the newest that can be used.
//!
//! Owns the TLS configurations that servers take for their next connection, and what people are told of each
//! certificate. Never makes a certificate: the leader's `authority` does, where it is asked to. A private key is in no
//! log and no `Debug`.
//!
//! 1. A source reads a [`Pair`]: [`folder`] from files, [`secret`] from the Kubernetes API.
//! 2. [`Certificate::take`] checks it and publishes a configuration for each protocol; one that cannot be used leaves
//!    the one before in use.
//! 3. Servers take [`Certificate::configs`], probes [`Certificate::states`].

pub mod folder;
pub mod secret;
pub(crate) mod x509;

use std::sync::Arc;

use tokio::sync::watch;
use tokio_rustls::rustls;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::metrics::Metrics;
use x509::Cert;

pub use x509::UnixSeconds;

/// As Secrets of type `kubernetes.io/tls` name the certificate, with those that lead from it to the authority.
pub(crate) const CERTIFICATE: &str = "tls.crt";

/// As Secrets of type `kubernetes.io/tls` name the private key.
pub(crate) const KEY: &str = "tls.key";

/// The newest TLS configuration for a server; `None`: there is no certificate yet, and connections are closed.
pub type Configs = watch::Receiver<Option<Arc<ServerConfig>>>;

/// What a server speaks under TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// HTTP/2: gRPC.
    H2,
    /// HTTP/1.1 alone: what the API server speaks to webhooks, so that its connections spread over the replicas.
    Http1,
}

/// A server of this controller that shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    /// For gateways.
    Discovery,
    /// For the API server.
    Webhooks,
}

/// How a certificate fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// When the one in use expires; unset while there is none.
    pub expires: Option<UnixSeconds>,
    /// Why there is none, or no newer one; a sentence for a person.
    pub problem: Option<String>,
}

/// Why a pair cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// It is no PEM of what it should be.
    #[error("{0}: {1}")]
    Pem(&'static str, pem::Error),
    /// There is no certificate.
    #[error("{CERTIFICATE} holds no certificate")]
    Empty,
    /// What it holds is no certificate.
    #[error("{CERTIFICATE}: {0}")]
    Unreadable(x509::CertError),
    /// The certificate and the key cannot be used together.
    #[error("{CERTIFICATE} and {KEY} cannot be used: {0}")]
    Unusable(rustls::Error),
}

/// A certificate chain and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

/// The certificate of one or more servers.
pub struct Certificate {
    servers: &'static [Server],
    provider: Arc<CryptoProvider>,
    metrics: Arc<Metrics>,
    /// What is in use; `None` before the first that could be used.
    pair: Option<Pair>,
    h2: watch::Sender<Option<Arc<ServerConfig>>>,
    http1: watch::Sender<Option<Arc<ServerConfig>>>,
    state: watch::Sender<State>,
    /// Whether the log knows that the one in use has expired.
    told_expired: bool,
}

// === impl Server ===

impl Server {
    /// Its name in logs, on the admin port and in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Discovery => "discovery",
            Self::Webhooks => "webhooks",
        }
    }
}

// === impl Pair ===

impl Pair {
    /// The leaf, and the configuration that shows it, for no protocol yet.
    pub(crate) fn open(&self, provider: &Arc<CryptoProvider>) -> Result<(Cert, ServerConfig), PairError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| PairError::Pem(CERTIFICATE, error))?;
        let leaf = chain.first().ok_or(PairError::Empty)?;
        let leaf = Cert::parse(leaf).map_err(PairError::Unreadable)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| PairError::Pem(KEY, error))?;
        let config = ServerConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(PairError::Unusable)?;
        Ok((leaf, config))
    }
}

impl std::fmt::Debug for Pair {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

// === impl Certificate ===

impl Certificate {
    /// None yet, for `servers`.
    #[must_use]
    pub fn new(servers: &'static [Server], metrics: Arc<Metrics>) -> Self {
        Self {
            servers,
            provider: Arc::new(ring::default_provider()),
            metrics,
            pair: None,
            h2: watch::Sender::new(None),
            http1: watch::Sender::new(None),
            state: watch::Sender::default(),
            told_expired: false,
        }
    }

    /// The configuration for the next connection.
    #[must_use]
    pub fn configs(&self, alpn: Alpn) -> Configs {
        match alpn {
            Alpn::H2 => self.h2.subscribe(),
            Alpn::Http1 => self.http1.subscribe(),
        }
    }

    /// How it fares.
    #[must_use]
    pub fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Which servers show it.
    #[must_use]
    pub fn servers(&self) -> &'static [Server] {
        self.servers
    }

    /// For logs: the servers that show it.
    fn name(&self) -> String {
        self.servers.iter().map(|server| server.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Shows `pair` from the next connection on, if it is another; whether it is.
    pub(crate) fn take(&mut self, pair: Pair) -> Result<bool, PairError> {
        if self.pair.as_ref() == Some(&pair) {
            if self.state.send_if_modified(|state| state.problem.take().is_some()) {
                log::info!(servers = self.name(); "Certificate can be read again");
            }
            return Ok(false);
        }
        let (leaf, config) = pair.open(&self.provider)?;
        let expires = leaf.not_after();
        self.h2.send_replace(Some(Arc::new(with_alpn(config.clone(), b"h2"))));
        self.http1.send_replace(Some(Arc::new(with_alpn(config, b"http/1.1"))));
        self.state.send_replace(State { expires: Some(expires), problem: None });
        for server in self.servers {
            self.metrics.set_certificate_expiry(*server, expires);
        }
        if self.pair.replace(pair).is_some() {
            log::info!(servers = self.name(), expires:% = expires; "Certificate was replaced");
        } else {
            log::info!(servers = self.name(), expires:% = expires; "Certificate is there");
        }
        self.told_expired = false;
        Ok(true)
    }

    /// There is no newer one, and why; said once.
    pub(crate) fn tell_problem(&mut self, problem: &str) {
        if self.state.borrow().problem.as_deref() == Some(problem) {
            return;
        }
        if self.pair.is_some() {
            log::warn!(servers = self.name(), error = problem;
                "Certificate cannot be read; the one before stays in use");
        } else {
            log::warn!(servers = self.name(), error = problem;
                "There is no certificate yet; connections are closed until there is one");
        }
        self.state.send_modify(|state| state.problem = Some(problem.to_owned()));
    }

    /// Says once that the one in use has expired.
    pub(crate) fn tell_expiry(&mut self, now: UnixSeconds) {
        let expired = self.state.borrow().expires.is_some_and(|expires| expires < now);
        if expired && !self.told_expired {
            log::warn!(servers = self.name();
                "Certificate has expired; whoever connects refuses it until it is renewed");
            self.told_expired = true;
        }
    }
}

impl std::fmt::Debug for Certificate {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("servers", &self.servers).finish_non_exhaustive()
    }
}

fn with_alpn(mut config: ServerConfig, protocol: &[u8]) -> ServerConfig {
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}

#[cfg(test)]
pub(crate) mod tests;
