//! TLS to a controller: the address is dialled, the name is verified, and what fails is said in words.

use std::error::Error;
use std::io;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{self, CertificateError};
use tower::ServiceExt as _;

use super::credentials::Tls;

/// A handshake that failed, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TLS with {name}: {text}")]
pub(crate) struct TlsError {
    name: String,
    text: String,
    /// It ended before the controller showed who it is.
    is_closed: bool,
}

/// Connects to `address`, and goes on only if it shows that it is who `tls` names.
///
/// # Errors
/// A [`TlsError`], or what TCP says.
pub(super) async fn dial(
    address: Uri,
    tls: Tls,
) -> Result<TokioIo<TlsStream<TcpStream>>, Box<dyn Error + Send + Sync>> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    let stream = tcp.oneshot(address).await?.into_inner();
    let name = tls.name.to_str().into_owned();
    let stream = TlsConnector::from(tls.config).connect(tls.name, stream).await;
    let stream = stream.map_err(|error| TlsError {
        text: words(&error, &name),
        name,
        is_closed: is_closed(&error),
    })?;
    Ok(TokioIo::new(stream))
}

// === impl TlsError ===

impl TlsError {
    /// Whether the controller hung up, and so said nothing that could be distrusted.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }
}

/// What is closed before it has read everything is reset.
fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// What went wrong, and where the reader finds the cause.
fn words(error: &io::Error, name: &str) -> String {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => certificate_words(why, name),
        Some(rustls::Error::InvalidMessage(_)) => "what answers does not speak TLS".to_owned(),
        Some(other) => other.to_string(),
        None if is_closed(error) => {
            "the controller closed the connection; it may have no certificate yet".to_owned()
        }
        None => error.to_string(),
    }
}

fn certificate_words(why: &CertificateError, name: &str) -> String {
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the controller's certificate has expired ({why})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the controller's certificate is not valid yet ({why})")
        }
        // A new authority of an old one's name is found by it, and only its signature does not fit.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "unknown issuer: no certificate in --discovery-ca-file signed the controller's".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!("name mismatch: the controller's certificate is not for {name} ({why})")
        }
        other => format!("the controller's certificate cannot be used: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(error: rustls::Error) -> String {
        words(&io::Error::new(io::ErrorKind::InvalidData, error), "controller")
    }

    #[test]
    fn what_fails_is_said_in_words() {
        for (why, sentence) in [
            (CertificateError::Expired, "the controller's certificate has expired"),
            (CertificateError::NotValidYet, "the controller's certificate is not valid yet"),
            (CertificateError::UnknownIssuer, "unknown issuer: "),
            (CertificateError::BadSignature, "unknown issuer: "),
            (
                CertificateError::NotValidForName,
                "name mismatch: the controller's certificate is not for controller",
            ),
            (CertificateError::Revoked, "the controller's certificate cannot be used: "),
        ] {
            let text = said(rustls::Error::InvalidCertificate(why));
            assert!(text.starts_with(sentence), "{text}");
        }
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe]
        {
            let said = words(&io::Error::new(kind, "closed"), "controller");
            assert_eq!(said, "the controller closed the connection; it may have no certificate yet");
        }
        let plain = rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType);
        assert_eq!(said(plain), "what answers does not speak TLS");
    }
}
