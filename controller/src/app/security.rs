//! Who may see routes, and on what way, from the flags: what would be open by accident is an error.

use std::net::SocketAddr;
use std::sync::Arc;

use kube::Client;

use crate::args::Args;
use crate::discovery::{Access, Limits};
use crate::metrics::Metrics;

/// Flags that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SecurityError {
    /// Every machine that can connect would be told every route.
    #[error(
        "--discovery-listen {0} is no loopback address, and there is no certificate: give one by --discovery-cert-dir, \
         let the controllers make one by --certificate-secret, or say --discovery-plaintext"
    )]
    PlainText(SocketAddr),
    /// TLS alone keeps nobody out.
    #[error("--gateway-service-account is missing: say which gateways may see routes, as NAMESPACE/NAME")]
    NoAccount,
    /// No gateway sends its token there.
    #[error(
        "--gateway-service-account needs a certificate (--discovery-cert-dir or --certificate-secret), or a loopback \
         address for --discovery-listen: tokens are not sent in plain text"
    )]
    PlainTokens,
}

/// Whether the flags go together.
///
/// # Errors
/// When they do not.
pub(super) fn check(args: &Args) -> Result<(), SecurityError> {
    let has_certificate = args.discovery_cert_dir.is_some() || args.certificate_secret.is_some();
    let is_local = args.discovery_listen.ip().is_loopback();
    let names_accounts = !args.gateway_service_account.is_empty();
    if args.manifests.is_none() && has_certificate && !names_accounts {
        return Err(SecurityError::NoAccount);
    }
    if has_certificate || is_local {
        return Ok(());
    }
    if names_accounts {
        return Err(SecurityError::PlainTokens);
    }
    if !args.discovery_plaintext {
        return Err(SecurityError::PlainText(args.discovery_listen));
    }
    Ok(())
}

/// Who may listen. Two streams of each gateway may wait to be let in.
pub(super) fn access(args: &Args, client: Option<&Client>, limits: Limits, metrics: &Arc<Metrics>) -> Access {
    match client {
        Some(client) if !args.gateway_service_account.is_empty() => {
            let (accounts, metrics) = (&args.gateway_service_account, Arc::clone(metrics));
            Access::only(accounts, client.clone(), 2 * limits.gateways, metrics)
        }
        _ => Access::open(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn parsed(args: &[&str]) -> Args {
        Args::try_parse_from(std::iter::once(&"krypton-controller").chain(args)).unwrap()
    }

    fn checked(args: &[&str]) -> Result<(), SecurityError> {
        check(&parsed(args))
    }

    #[test]
    fn what_is_open_is_open_on_purpose() {
        let (anywhere, account) = ("--discovery-listen=0.0.0.0:9090", "--gateway-service-account=a/b");
        let everywhere = "--discovery-listen=[::]:9090";
        let own = ["--certificate-secret=s", "--certificate-authority=c", "--certificate-names=n"];
        for args in [
            &[][..],
            &[anywhere, account, own[0], own[1], own[2]],
            &[account],
            &["--manifests=d"],
            &["--manifests=d", anywhere, "--discovery-plaintext"],
            &["--manifests=d", "--discovery-cert-dir=d"],
            &[anywhere, "--discovery-plaintext"],
            &[anywhere, "--discovery-cert-dir=d", account],
            &["--discovery-cert-dir=d", account],
        ] {
            assert_eq!(checked(args), Ok(()), "{args:?}");
        }
        assert_eq!(checked(&["--discovery-cert-dir=d"]), Err(SecurityError::NoAccount));
        assert_eq!(checked(&own), Err(SecurityError::NoAccount));
        assert_eq!(checked(&[anywhere, account]), Err(SecurityError::PlainTokens));
        assert_eq!(checked(&[anywhere, account, "--discovery-plaintext"]), Err(SecurityError::PlainTokens));
        assert!(matches!(checked(&["--manifests=d", anywhere]), Err(SecurityError::PlainText(_))));
        let error = checked(&[everywhere]).unwrap_err().to_string();
        for way_out in ["--discovery-cert-dir", "--certificate-secret", "--discovery-plaintext"] {
            assert!(error.contains(way_out), "{error}");
        }
    }
}
