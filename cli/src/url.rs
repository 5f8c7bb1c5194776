//! A public URL, parsed once.

use std::fmt;
use std::str::FromStr;

/// `http://` or `https://`, a host, perhaps a port, perhaps a path in front of `/v1/agents`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    https: bool,
    /// In small letters; an IPv6 address without its brackets.
    host: String,
    port: Option<u16>,
    /// Without a slash at its end; empty for the root.
    path: String,
}

// === impl Url ===

impl Url {
    /// Whether TLS is spoken.
    pub(crate) fn https(&self) -> bool {
        self.https
    }

    /// The host, as DNS or a certificate names it.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The port, also where it goes without saying.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.https { 443 } else { 80 })
    }

    /// What the Host header says.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        self.port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
    }

    /// Its path in front of `/v1/agents`; empty for the root.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The same without a path.
    pub(crate) fn root(&self) -> Self {
        Self { path: String::new(), ..self.clone() }
    }

    /// The same by the other of http and https, at the same port.
    pub(crate) fn other_scheme(&self) -> Self {
        Self { https: !self.https, port: Some(self.port()), ..self.clone() }
    }

    /// `target`, which starts with a slash, under the URL's path.
    pub(crate) fn join(&self, target: &str) -> String {
        format!("{}{target}", self.path)
    }
}

impl FromStr for Url {
    type Err = String;

    /// A path that ends in `/v1/agents` is taken for what people copy from the docs: the prefix is not doubled.
    fn from_str(text: &str) -> Result<Self, String> {
        let uri: http::Uri = text.parse().map_err(|error| format!("{error}; write https://HOST"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("must begin with http:// or https://".to_owned()),
        };
        if uri.query().is_some() {
            return Err("must not have a query".to_owned());
        }
        let authority = uri.authority().ok_or("has no host")?;
        if authority.as_str().contains('@') {
            return Err("must not have a user; give credentials by -H 'authorization: …'".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1/agents").unwrap_or(path).to_owned();
        if path.contains("/v1/agents/") {
            return Err("must end before /v1/agents/: an agent is no part of it".to_owned());
        }
        Ok(Self { https, host, port: authority.port_u16(), path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url: Url = "https://Agents.example.com/".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.https()), ("agents.example.com", 443, true));
        assert_eq!(url.join("/v1/agents/_probe/stream"), "/v1/agents/_probe/stream");
        assert_eq!(url.to_string(), "https://agents.example.com");
        assert_eq!(url.other_scheme().to_string(), "http://agents.example.com:443");
        let url: Url = "http://[::1]:8080/base/v1/agents".parse().unwrap();
        assert_eq!((url.host(), url.port(), url.authority().as_str()), ("::1", 8080, "[::1]:8080"));
        assert_eq!(url.join("/v1/agents/a/b"), "/base/v1/agents/a/b");
        assert_eq!((url.path(), url.root().to_string().as_str()), ("/base", "http://[::1]:8080"));
        assert_eq!(url.other_scheme().to_string(), "https://[::1]:8080/base");
    }

    #[test]
    fn what_is_no_public_url_is_refused() {
        for wrong in [
            "agents.example.com",
            "ftp://a",
            "https://",
            "http://a?x",
            "http://u:p@a",
            "http://a b",
            "http://a/v1/agents/b/c",
        ] {
            assert!(wrong.parse::<Url>().is_err(), "{wrong}");
        }
    }
}
