//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::{ArgAction, Parser};
use ipnet::IpNet;
use krypton_discovery::{is_dns_label, parse_network};
use krypton_logging::LogArgs;

use crate::discovery::ServiceAccountName;
use crate::lease::{LEASE_NAME, is_address};
use crate::object::Scope;

/// The longest name of a controller: it is to be read in a column.
const MAX_IDENTITY: usize = 200;

/// The longest name of DNS, and of an object in Kubernetes.
const MAX_DNS_NAME: usize = 253;

/// Watches Agents and their endpoints and tells every Krypton gateway where to route.
#[derive(Debug, Clone, Parser)]
#[command(name = "krypton-controller", version, max_term_width = 100, args_override_self = true)]
pub struct Args {
    /// Read Agents, EndpointSlices and Services from the YAML and JSON files in this folder and follow its
    /// changes, instead of watching the Kubernetes API. Endpoints on this machine (loopback) are allowed then
    #[arg(long, env = "KRYPTON_MANIFESTS", value_name = "DIR", conflicts_with_all = ["kubeconfig", "namespaces", "lease_namespace", "lease_name", "ingress_read_timeout"])]
    pub manifests: Option<PathBuf>,

    /// How to reach the Kubernetes API. Without it: the file that KUBECONFIG names, else ~/.kube/config, else
    /// the service account of the pod
    #[arg(long, env = "KRYPTON_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Watch this namespace only; may be given several times, or as a list with commas. Without it: all namespaces
    #[arg(long = "namespace", env = "KRYPTON_NAMESPACE", value_name = "NAME", value_delimiter = ',', value_parser = parse_namespace)]
    pub namespaces: Vec<String>,

    /// Where gateways connect. Port 0 takes a free one
    #[arg(long, env = "KRYPTON_DISCOVERY_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:9090", value_parser = parse_listen_address)]
    pub discovery_listen: SocketAddr,

    /// Folder with the certificate and key that gateways are shown, tls.crt and tls.key; read again when they change
    #[arg(long, env = "KRYPTON_DISCOVERY_CERT_DIR", value_name = "DIR")]
    pub discovery_cert_dir: Option<PathBuf>,

    /// Tell routes in plain text, to whoever asks, also where other machines can connect. Without a certificate this
    /// must be said, unless --discovery-listen is a loopback address
    #[arg(long, env = "KRYPTON_DISCOVERY_PLAINTEXT", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new(), conflicts_with = "discovery_cert_dir")]
    pub discovery_plaintext: bool,

    /// Service accounts whose tokens (audience krypton-discovery) open the way to routes; separated by commas. Needed
    /// with a certificate on a cluster
    #[arg(
        long,
        env = "KRYPTON_GATEWAY_SERVICE_ACCOUNT",
        value_name = "NAMESPACE/NAME",
        value_delimiter = ',',
        conflicts_with = "manifests"
    )]
    pub gateway_service_account: Vec<ServiceAccountName>,

    /// Where gateways reach this controller while it leads, as HOST:PORT. Without it: the address that it listens
    /// on for them
    #[arg(long, env = "KRYPTON_ADVERTISE_ADDRESS", value_name = "ADDRESS", value_parser = parse_address)]
    pub advertise_address: Option<String>,

    /// Namespace of the Lease by which the controllers agree on a leader. Controllers that look after different
    /// namespaces (--namespace) need Leases of their own. Without it: the pod's own, else
    /// krypton-system
    #[arg(long, env = "KRYPTON_LEASE_NAMESPACE", value_name = "NAME", value_parser = parse_namespace)]
    pub lease_namespace: Option<String>,

    /// Name of that Lease. Installations that share a namespace need one each
    #[arg(long, env = "KRYPTON_LEASE_NAME", value_name = "NAME", default_value = LEASE_NAME, value_parser = parse_lease_name)]
    pub lease_name: String,

    /// What the Lease calls this controller while it leads; a random suffix is added. Without it: the host's name
    #[arg(long, env = "KRYPTON_IDENTITY", value_name = "NAME", value_parser = parse_identity)]
    pub identity: Option<String>,

    /// Where /healthz, /readyz, /metrics and /debug are served. Port 0 takes a free one
    #[arg(long, env = "KRYPTON_ADMIN_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8082", value_parser = parse_listen_address)]
    pub admin_listen: SocketAddr,

    /// Networks that no endpoint may be in, e.g. the nodes' own; separated by commas. Link-local, multicast and
    /// metadata addresses are always refused
    #[arg(long, env = "KRYPTON_DENY_CIDRS", value_name = "CIDR", value_delimiter = ',', value_parser = parse_network)]
    pub deny_cidrs: Vec<IpNet>,

    /// For how long the ingress in front of the gateways bears silence: its read timeout. An Agent whose timeout
    /// reaches that gets a Warning. Without it: nothing is checked
    #[arg(long, env = "KRYPTON_INGRESS_READ_TIMEOUT", value_name = "DURATION", value_parser = parse_above_zero)]
    pub ingress_read_timeout: Option<Duration>,

    /// Check and complete Agents when they are written: serve admission webhooks, on every replica. They answer
    /// nothing until the cluster is told of them by webhook configurations
    #[arg(long, env = "KRYPTON_ENABLE_WEBHOOKS", action = ArgAction::SetTrue, value_parser = BoolishValueParser::new())]
    pub enable_webhooks: bool,

    /// Where the API server reaches the webhooks, over TLS. Port 0 takes a free one
    #[arg(long, env = "KRYPTON_WEBHOOK_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9443", value_parser = parse_listen_address)]
    pub webhook_listen: SocketAddr,

    /// Folder with the webhooks' certificate and key, tls.crt and tls.key; read again when they change
    #[arg(
        long,
        env = "KRYPTON_WEBHOOK_CERT_DIR",
        value_name = "DIR",
        default_value = "/tmp/k8s-webhook-server/serving-certs"
    )]
    pub webhook_cert_dir: PathBuf,

    /// The controllers' own certificate, for discovery and webhooks, instead of folders: this Secret in the namespace
    /// of the Lease. It must exist, empty at first; the controller that leads fills it, renews what is in it, and
    /// every controller shows what it holds
    #[arg(
        long,
        env = "KRYPTON_CERTIFICATE_SECRET",
        value_name = "NAME",
        value_parser = parse_object_name,
        conflicts_with_all = ["manifests", "webhook_cert_dir", "discovery_cert_dir", "discovery_plaintext"],
        requires_all = ["certificate_authority", "certificate_names"]
    )]
    pub certificate_secret: Option<String>,

    /// The ConfigMap, in the namespace of the Lease, in which the controller that leads publishes whom to trust, as
    /// ca.crt. It must exist, empty at first
    #[arg(long, env = "KRYPTON_CERTIFICATE_AUTHORITY", value_name = "NAME", value_parser = parse_object_name, requires = "certificate_secret")]
    pub certificate_authority: Option<String>,

    /// What the controllers' own certificate is for: the names of their Services, as gateways and the API server
    /// call them; separated by commas
    #[arg(long, env = "KRYPTON_CERTIFICATE_NAMES", value_name = "DNS", value_delimiter = ',', value_parser = parse_server_name, requires = "certificate_secret")]
    pub certificate_names: Vec<String>,

    /// Name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration whose caBundle the
    /// controller that leads keeps. Without it: theirs is somebody else's business
    #[arg(long, env = "KRYPTON_WEBHOOK_CONFIGURATIONS", value_name = "NAME", value_parser = parse_object_name, requires_all = ["certificate_secret", "enable_webhooks"])]
    pub webhook_configurations: Option<String>,

    /// What is logged, and how
    #[command(flatten)]
    pub log: LogArgs,
}

// === impl Args ===

impl Args {
    /// The namespaces to watch, each once.
    #[must_use]
    pub fn scopes(&self) -> Vec<Scope> {
        if self.namespaces.is_empty() {
            return vec![Scope::AllNamespaces];
        }
        let mut names = self.namespaces.clone();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(Scope::Namespace).collect()
    }
}

fn parse_listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an IP address and a port such as 127.0.0.1:9090 or [::]:9090")
}

fn parse_namespace(name: &str) -> Result<String, String> {
    if is_dns_label(name.as_bytes()) {
        return Ok(name.to_owned());
    }
    Err("not a namespace's name: 1 to 63 of a-z, 0-9 and '-', not at an end".to_owned())
}

fn parse_lease_name(name: &str) -> Result<String, String> {
    if name.len() <= 253 && name.split('.').all(|part| is_dns_label(part.as_bytes())) {
        return Ok(name.to_owned());
    }
    Err("not a Lease's name: a-z, 0-9, '-' and '.', as DNS names are".to_owned())
}

fn parse_above_zero(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be above 0".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("expected a duration such as 60s or 5m30s".to_owned()),
    }
}

fn parse_object_name(name: &str) -> Result<String, String> {
    if name.len() <= MAX_DNS_NAME && name.split('.').all(|label| is_dns_label(label.as_bytes())) {
        return Ok(name.to_owned());
    }
    Err("not an object's name: a-z, 0-9, '-' and '.', 253 at most".to_owned())
}

/// As a certificate has it: what means the same is spelled the same.
fn parse_server_name(name: &str) -> Result<String, String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    parse_object_name(&name.to_ascii_lowercase())
        .map_err(|_| "not a name of DNS or an IP address, without a port".to_owned())
}

fn parse_address(address: &str) -> Result<String, String> {
    if is_address(address) {
        return Ok(address.to_owned());
    }
    Err("not HOST:PORT to connect to: a name of DNS or an IP address, and a port above 0".to_owned())
}

fn parse_identity(identity: &str) -> Result<String, String> {
    if (1..=MAX_IDENTITY).contains(&identity.len()) && identity.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(identity.to_owned());
    }
    Err(format!("not 1 to {MAX_IDENTITY} ASCII characters without spaces"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, String> {
        let args = std::iter::once(&"krypton-controller").chain(args);
        Args::try_parse_from(args).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_reference() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.discovery_listen, "127.0.0.1:9090".parse().unwrap());
        assert_eq!(args.admin_listen, "127.0.0.1:8082".parse().unwrap());
        assert_eq!(args.scopes(), [Scope::AllNamespaces]);
        assert!(!args.enable_webhooks);
        assert_eq!(args.ingress_read_timeout, None);
        assert_eq!(args.webhook_listen, "0.0.0.0:9443".parse().unwrap());
        assert_eq!(args.webhook_cert_dir, PathBuf::from("/tmp/k8s-webhook-server/serving-certs"));
    }

    #[test]
    fn every_flag_has_a_variable_of_its_name() {
        use clap::CommandFactory as _;
        for flag in Args::command().get_arguments() {
            let Some(long) = flag.get_long() else { continue };
            let variable = format!("KRYPTON_{}", long.replace('-', "_").to_uppercase());
            assert_eq!(flag.get_env(), Some(variable.as_ref()), "--{long}");
        }
    }

    #[test]
    fn namespaces_and_networks_may_be_several() {
        let args = parse(&["--namespace", "b", "--namespace", "a", "--namespace", "b"]).unwrap();
        assert_eq!(args.scopes(), [Scope::Namespace("a".into()), Scope::Namespace("b".into())]);
        assert_eq!(parse(&["--namespace", "b,a"]).unwrap().scopes(), args.scopes());
        let args = parse(&["--deny-cidrs", "10.0.0.0/8,fd00::/8"]).unwrap();
        assert_eq!(args.deny_cidrs.len(), 2);
        let args = parse(&["--ingress-read-timeout", "5m30s"]).unwrap();
        assert_eq!(args.ingress_read_timeout, Some(Duration::from_secs(330)));
    }

    #[test]
    fn an_own_certificate_needs_all_that_it_is_made_of() {
        let args = parse(&[
            "--certificate-secret",
            "s",
            "--certificate-authority",
            "a",
            "--certificate-names",
            "Krypton.svc,127.0.0.1,0:0::1",
        ]);
        assert_eq!(args.unwrap().certificate_names, ["krypton.svc", "127.0.0.1", "::1"]);
        for (args, sentence) in [
            (&["--certificate-secret", "s"][..], "--certificate-authority"),
            (&["--certificate-secret", "s", "--certificate-authority", "a"], "--certificate-names"),
            (&["--certificate-names", "a"], "--certificate-secret"),
            (&["--webhook-configurations", "a"], "--certificate-secret"),
            (&["--webhook-configurations", "a"], "--enable-webhooks"),
            (&["--certificate-secret", "s", "--webhook-cert-dir", "d"], "cannot be used with"),
            (&["--certificate-secret", "s", "--manifests", "d"], "cannot be used with"),
            (&["--certificate-secret", "a/b"], "not an object's name"),
            (&["--certificate-names", "a:9090"], "without a port"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(sentence), "{args:?}: {error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_sentence() {
        for (args, sentence) in [
            (&["--manifests", "d", "--namespace", "a"][..], "cannot be used with"),
            (&["--manifests", "d", "--kubeconfig", "f"], "cannot be used with"),
            (&["--namespace", "a/b"], "not a namespace's name"),
            (&["--manifests", "d", "--lease-namespace", "a"], "cannot be used with"),
            (&["--lease-namespace", "a/b"], "not a namespace's name"),
            (&["--manifests", "d", "--lease-name", "a"], "cannot be used with"),
            (&["--lease-name", "a_b"], "not a Lease's name"),
            (&["--lease-name", ""], "not a Lease's name"),
            (&["--identity", "a b"], "without spaces"),
            (&["--identity", ""], "not 1 to 200"),
            (&["--advertise-address", "0.0.0.0:9090"], "not HOST:PORT"),
            (&["--discovery-plaintext", "--discovery-cert-dir", "d"], "cannot be used with"),
            (&["--manifests", "d", "--gateway-service-account", "a/b"], "cannot be used with"),
            (&["--gateway-service-account", "a"], "not a service account as NAMESPACE/NAME"),
            (&["--ingress-read-timeout", "0s"], "must be above 0"),
            (&["--ingress-read-timeout", "60"], "expected a duration such as 60s or 5m30s"),
            (&["--manifests", "d", "--ingress-read-timeout", "60s"], "cannot be used with"),
            (&["--discovery-listen", "9090"], "an IP address and a port such as 127.0.0.1:9090"),
            (&["--webhook-listen", ":9443"], "an IP address and a port"),
            (&["--deny-cidrs", "10.0.0.0/33"], "expected a CIDR such as 10.0.0.0/8"),
            (&["--log-level", "loud"], "expected off, error, warn, info, debug or trace"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(sentence), "{args:?}: {error}");
        }
    }
}
