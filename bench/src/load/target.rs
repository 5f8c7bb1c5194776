//! Where load goes.
//!
//! Owns: URLs from the command line as addresses, and the rule that load goes to this machine only. Never connects.

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, ensure};
use http::Uri;

/// A URL, taken apart and looked up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Target {
    /// Where to connect.
    pub(super) address: SocketAddr,
    /// For the Host field.
    pub(super) authority: String,
    /// Path and query; at least `/`. May hold [patterns](super::mix).
    pub(super) path: String,
}

// === impl Target ===

impl Target {
    /// Takes `url` apart and looks its host up.
    ///
    /// # Errors
    /// When it is no `http://` URL, its host has no address, or it is another machine without `allow_remote`.
    pub(super) fn new(url: &str, allow_remote: bool) -> anyhow::Result<Self> {
        let help = "give one as http://127.0.0.1:8080/path";
        // A path may hold patterns in braces, which are no part of a URI.
        let (scheme, rest) =
            url.split_once("://").with_context(|| format!("{url:?} is not a URL: {help}"))?;
        ensure!(
            scheme != "https" && scheme != "wss",
            "{url:?} asks for TLS, which load does not speak: {help}"
        );
        ensure!(scheme == "http" || scheme == "ws", "{url:?} is of no protocol that load speaks: {help}");
        ensure!(!rest.contains('#'), "{url:?} has a fragment, which is never sent: {help}");
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let uri: Uri = format!("http://{authority}/")
            .parse()
            .with_context(|| format!("{url:?} is not a URL: {help}"))?;
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .with_context(|| format!("{url:?} has no host: {help}"))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        // `Uri` lets a port be any digits, and forgets those that are none.
        let port = match authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((_, port)) => {
                port.parse().with_context(|| format!("{url:?} has no port {port:?}: {help}"))?
            }
            None => 80,
        };
        ensure!(!authority.contains('@'), "{url:?} holds credentials, which load does not send: {help}");
        let address = (bare, port)
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .with_context(|| format!("the host of {url:?} has no address: {help}"))?;
        ensure!(
            allow_remote || address.ip().is_loopback(),
            "{url:?} is not on this machine, and load can take a server down: give a loopback address, or say --allow-remote if the server is yours"
        );
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { address, authority: authority.to_owned(), path: format!("{slash}{path}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_urls_apart() {
        let target = Target::new("http://127.0.0.1:8080/a/{0..3}?b=c", false).unwrap();
        assert_eq!(target.address, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((target.authority.as_str(), target.path.as_str()), ("127.0.0.1:8080", "/a/{0..3}?b=c"));
        assert_eq!(Target::new("http://[::1]", false).unwrap().address, "[::1]:80".parse().unwrap());
        assert_eq!(Target::new("ws://127.9.9.9?q", false).unwrap().path, "/?q");
    }

    #[test]
    fn says_what_is_wrong_with_one() {
        let error = |url| format!("{:#}", Target::new(url, false).unwrap_err());
        assert!(error("127.0.0.1:80/").contains("is not a URL"), "{}", error("127.0.0.1:80/"));
        assert!(error("http://").contains("URL") || error("http:///x").contains("host"));
        assert!(error("http://127.0.0.1:99999/").contains("no port"));
        assert!(error("http://u:p@127.0.0.1:80/").contains("credentials"));
        assert!(error("http://127.0.0.1/#a").contains("fragment"));
        assert!(error("https://127.0.0.1/").contains("TLS"));
        assert!(error("ftp://127.0.0.1/").contains("no protocol"));
        assert!(error("http://192.0.2.1/").contains("--allow-remote"));
        assert!(error("http://0.0.0.0/").contains("--allow-remote"));
        assert!(Target::new("http://192.0.2.1/", true).is_ok());
    }
}
