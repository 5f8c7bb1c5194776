//! How the controller is recognised, and how this gateway shows who it is.
//!
//! Owns the rule that a token never travels in plain text to another machine, and the reading of both files. Never keeps
//! what they hold: each connection reads them anew, since Kubernetes changes them while the gateway runs.
//!
//! 1. [`Credentials::new`] refuses flags that contradict each other, once, at the start.
//! 2. [`Credentials::tls`] and [`Credentials::token`] read the files for one connection.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Uri;
use tokio::io::AsyncReadExt as _;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tonic::metadata::{Ascii, MetadataValue};

/// The name of the one that holds certificates.
const CA_FLAG: &str = "--discovery-ca-file";

/// The name of the one that holds the token.
const TOKEN_FLAG: &str = "--discovery-token-file";

/// Bytes of a bundle: what a ConfigMap holds.
const MAX_BUNDLE: u64 = 1 << 20;

/// Bytes of a token: what the controller takes as one header. Kubernetes' are below 2 KiB.
const MAX_TOKEN: u64 = 8 << 10;

/// What a connection to a controller needs beside its address. The default is plain text without a token.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    trust: Option<Trust>,
    token_file: Option<PathBuf>,
}

/// Whom to trust as the controller.
#[derive(Debug, Clone)]
struct Trust {
    /// The host of the URL, also where another address is dialled.
    name: ServerName<'static>,
    ca_file: PathBuf,
}

/// Flags that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// TLS without anybody to trust.
    #[error(
        "{CA_FLAG} is missing: with --discovery https://HOST:PORT, name the file with the certificates that sign the \
         controller's"
    )]
    NoCa,
    /// A bundle that would not be looked at.
    #[error("{CA_FLAG} says nothing with --discovery http://HOST:PORT: write https://, or leave it out")]
    UnusedCa,
    /// A token that everybody on the way could read.
    #[error(
        "{TOKEN_FLAG} needs --discovery https://HOST:PORT: a token is sent in plain text to loopback addresses only"
    )]
    PlainToken,
    /// The host cannot be in a certificate.
    #[error("--discovery: {0:?} is neither a name of DNS nor an IP address, so no certificate can be for it")]
    Name(String),
}

/// Why a file is of no use now. It may be later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{0} {path}: {2}", path = .1.display())]
    Read(&'static str, PathBuf, std::io::Error),
    #[error("{0} {path} is empty", path = .1.display())]
    Empty(&'static str, PathBuf),
    #[error("{0} {path} is larger than {2} bytes", path = .1.display())]
    Large(&'static str, PathBuf, u64),
    #[error("{CA_FLAG} {path} holds no certificate that can be used", path = .0.display())]
    NoCertificate(PathBuf),
    #[error("{CA_FLAG} {path}: {1}", path = .0.display())]
    Tls(PathBuf, rustls::Error),
    // Without what the file holds.
    #[error("{TOKEN_FLAG} {path} holds more than one line, or what is no text", path = .0.display())]
    NoToken(PathBuf),
    #[error("{TOKEN_FLAG}: no token is sent in plain text to {0}, which is not on this machine")]
    PlainToken(String),
}

/// What TLS to the controller takes.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) name: ServerName<'static>,
    pub(super) config: Arc<ClientConfig>,
}

// === impl Credentials ===

impl Credentials {
    /// Those for the controller at this URL.
    ///
    /// # Errors
    /// The flags contradict each other.
    pub fn new(
        controller: &Uri,
        ca_file: Option<PathBuf>,
        token_file: Option<PathBuf>,
    ) -> Result<Self, CredentialsError> {
        let host = controller.host().unwrap_or_default();
        let trust = match (controller.scheme_str() == Some("https"), ca_file) {
            (true, Some(ca_file)) => Some(Trust { name: server_name(host)?, ca_file }),
            (true, None) => return Err(CredentialsError::NoCa),
            (false, Some(_)) => return Err(CredentialsError::UnusedCa),
            (false, None) => None,
        };
        if trust.is_none() && token_file.is_some() && !is_loopback(host) {
            return Err(CredentialsError::PlainToken);
        }
        Ok(Self { trust, token_file })
    }

    /// For the next connection; `None` for plain text.
    pub(super) async fn tls(&self) -> Result<Option<Tls>, FileError> {
        let Some(Trust { name, ca_file }) = &self.trust else { return Ok(None) };
        let bundle = read(CA_FLAG, ca_file, MAX_BUNDLE).await?;
        let config = client_config(&bundle, ca_file)?;
        Ok(Some(Tls { name: name.clone(), config: Arc::new(config) }))
    }

    /// What the controller at `address` is shown; `None` where nothing is.
    pub(super) async fn token(&self, address: &Uri) -> Result<Option<MetadataValue<Ascii>>, FileError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        if self.trust.is_none() && !is_loopback(address.host().unwrap_or_default()) {
            return Err(FileError::PlainToken(address.to_string()));
        }
        let content = read(TOKEN_FLAG, path, MAX_TOKEN).await?;
        bearer(&content).map(Some).ok_or_else(|| FileError::NoToken(path.clone()))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("name", &self.name).finish_non_exhaustive()
    }
}

/// IPv6 addresses stand in brackets in a URL.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn server_name(host: &str) -> Result<ServerName<'static>, CredentialsError> {
    let name = ServerName::try_from(bare(host).to_owned());
    name.map_err(|_invalid| CredentialsError::Name(host.to_owned()))
}

/// Whether nothing leaves the machine on the way to `host`.
fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || bare(host).parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// A file's content without white space around it.
async fn read(flag: &'static str, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut content = Vec::new();
    let reading = async {
        let file = tokio::fs::File::open(path).await?;
        file.take(limit + 1).read_to_end(&mut content).await
    };
    let length = reading.await.map_err(|error| FileError::Read(flag, path.to_owned(), error))?;
    if u64::try_from(length).is_ok_and(|length| length > limit) {
        return Err(FileError::Large(flag, path.to_owned(), limit));
    }
    let trimmed = content.trim_ascii();
    if trimmed.is_empty() {
        return Err(FileError::Empty(flag, path.to_owned()));
    }
    Ok(trimmed.to_vec())
}

/// Trusts every certificate of `bundle` that can be used: one that cannot must not take the others with it.
fn client_config(bundle: &[u8], path: &Path) -> Result<ClientConfig, FileError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok));
    if roots.is_empty() {
        return Err(FileError::NoCertificate(path.to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| FileError::Tls(path.to_owned(), error))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// `None` for what cannot be a token, so that it can be sent nowhere.
fn bearer(token: &[u8]) -> Option<MetadataValue<Ascii>> {
    let token =
        str::from_utf8(token).ok().filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()))?;
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().ok()?;
    // Neither shown by `Debug` nor kept in HTTP/2's table of headers.
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(url: &Uri, ca: bool, token: bool) -> Result<Credentials, CredentialsError> {
        let file = |name: &str, is_set: bool| is_set.then(|| PathBuf::from(name));
        Credentials::new(url, file("ca", ca), file("token", token))
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused_by_name() {
        for (url, ca, token, flag) in [
            ("https://controller:9090", false, true, "--discovery-ca-file is missing"),
            ("http://controller:9090", true, false, "--discovery-ca-file says nothing"),
            ("http://controller:9090", false, true, "--discovery-token-file needs"),
            ("http://10.0.0.1:9090", false, true, "--discovery-token-file needs"),
            ("https://a_b..c:9090", true, true, "--discovery: "),
        ] {
            let error = credentials(&url.parse().unwrap(), ca, token).unwrap_err().to_string();
            assert!(error.starts_with(flag), "{url}: {error}");
        }
    }

    #[test]
    fn what_goes_together_is_taken() {
        for (url, ca, token) in [
            ("http://controller:9090", false, false),
            ("http://127.0.0.1:9090", false, true),
            ("http://[::1]:9090", false, true),
            ("http://LocalHost:9090", false, true),
            ("https://controller.krypton-system.svc:9090", true, false),
            ("https://10.0.0.1:9090", true, true),
            ("https://[fd00::1]:9090", true, true),
        ] {
            credentials(&url.parse().unwrap(), ca, token).unwrap();
        }
    }

    #[tokio::test]
    async fn a_token_stays_on_the_machine_also_when_the_leader_is_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "secret\n").unwrap();
        let here = "http://127.0.0.1:9090".parse().unwrap();
        let credentials = Credentials::new(&here, None, Some(path)).unwrap();
        let value = credentials.token(&here).await.unwrap().unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer secret");
        assert!(!format!("{value:?}").contains("secret"), "{value:?}");
        let error = credentials.token(&"http://10.0.0.1:9090".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, FileError::PlainToken(_)), "{error}");
    }

    #[tokio::test]
    async fn files_that_are_of_no_use_are_named_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("empty"), " \n").unwrap();
        std::fs::write(file("lines"), "secret\nsecret").unwrap();
        std::fs::write(file("bytes"), b"secret\xff").unwrap();
        std::fs::write(file("large"), "secret".repeat(2_000)).unwrap();
        std::fs::write(file("no-pem"), "secret").unwrap();
        let url = "https://localhost:1".parse().unwrap();
        for (name, sentence) in [
            ("missing", "No such file"),
            ("empty", "is empty"),
            ("lines", "holds more than one line"),
            ("bytes", "holds more than one line"),
            ("large", "is larger than 8192 bytes"),
        ] {
            let credentials = Credentials::new(&url, Some(file("no-pem")), Some(file(name))).unwrap();
            let error = credentials.token(&url).await.unwrap_err().to_string();
            assert!(error.starts_with("--discovery-token-file ") && error.contains(sentence), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        for (name, sentence) in
            [("missing", "No such file"), ("empty", "is empty"), ("no-pem", "holds no certificate")]
        {
            let credentials = Credentials::new(&url, Some(file(name)), None).unwrap();
            let error = credentials.tls().await.unwrap_err().to_string();
            assert!(error.starts_with("--discovery-ca-file ") && error.contains(sentence), "{error}");
        }
    }
}
