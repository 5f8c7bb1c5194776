//! Whose certificates are believed.
//!
//! The system's, as any browser or curl on this machine believes them, and those of `--cacert`. ring is the one
//! provider of cryptography.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, InvalidMessage, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, rustls};

use super::HttpError;
use crate::args::ConnectArgs;

/// Whether there is TLS, and whom it believes.
#[derive(Clone)]
pub(crate) enum Trust {
    /// No TLS.
    None,
    /// TLS by these rules.
    Tls(Arc<ClientConfig>),
}

/// A connection, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Believes everybody: only where a person said `--insecure`.
struct Anybody(Arc<CryptoProvider>);

// === impl Trust ===

impl Trust {
    /// As the flags say.
    pub(super) fn read(args: &ConnectArgs) -> Result<Self, HttpError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| HttpError::Trust(error.to_string()))?;
        let mut config = if args.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth()
        } else {
            builder.with_root_certificates(roots(args.cacert.as_deref())?).with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self::Tls(Arc::new(config)))
    }

    /// `stream`, with TLS where there is to be some.
    pub(super) async fn wrap(&self, host: &str, stream: TcpStream) -> Result<Box<dyn Stream>, HttpError> {
        let Self::Tls(config) = self else { return Ok(Box::new(stream)) };
        let failed = |error: io::Error| match error.get_ref().and_then(|cause| cause.downcast_ref()) {
            // What began the answer is no record of TLS: mostly a complaint in plain HTTP.
            Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                HttpError::NotTls { host: host.to_owned() }
            }
            _ => HttpError::Tls { host: host.to_owned(), error },
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(io::Error::other(error)))?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(failed)?;
        Ok(Box::new(stream))
    }
}

fn roots(cacert: Option<&Path>) -> Result<RootCertStore, HttpError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(native.certs);
    if let Some(path) = cacert {
        let failed =
            |error: &dyn fmt::Display| HttpError::Trust(format!("--cacert {}: {error}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))?;
        let mut added = 0;
        for certificate in certificates {
            roots.add(certificate.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
            added += 1;
        }
        if added == 0 {
            return Err(failed(&"no certificate in it"));
        }
    }
    if roots.is_empty() {
        return Err(HttpError::Trust(
            "this machine has no root certificates; give some by --cacert".to_owned(),
        ));
    }
    Ok(roots)
}

// === impl Anybody ===

impl fmt::Debug for Anybody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Anybody")
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
