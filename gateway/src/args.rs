//! The command line, parsed once into valid values.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;
use krypton_discovery::parse_network;
use krypton_logging::LogArgs;

/// Routes /v1/agents/{namespace}/{name}/... to the agent's pods, as the controller tells.
///
/// Everything about an agent (where it is, how long it may be silent) comes from the controller. The flags are
/// about the gateway itself.
#[derive(Debug, Clone, Parser)]
#[command(name = "krypton-gateway", version, max_term_width = 110, args_override_self = true)]
pub struct Args {
    /// Where calls come in: HTTP/1 and HTTP/2 without TLS
    #[arg(long, env = "KRYPTON_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDR", value_parser = listen_address)]
    pub listen: SocketAddr,

    /// Where /healthz, /readyz, /metrics and /debug/routes are
    #[arg(long, env = "KRYPTON_ADMIN_LISTEN", default_value = "0.0.0.0:8081", value_name = "ADDR", value_parser = listen_address)]
    pub admin_listen: SocketAddr,

    /// The controller's discovery service. With https, its certificate must be for this very host, also where the
    /// controller that leads is dialled by its own address
    #[arg(long, env = "KRYPTON_DISCOVERY", default_value = "http://127.0.0.1:9090", value_name = "URL", value_parser = discovery_url)]
    pub discovery: tonic::transport::Uri,

    /// PEM file with the certificates that sign the controller's; read anew for each connection
    #[arg(long, env = "KRYPTON_DISCOVERY_CA_FILE", value_name = "PATH")]
    pub discovery_ca_file: Option<PathBuf>,

    /// File with the service account token that the controller is shown; read anew for each connection, and never
    /// sent in plain text to another machine
    #[arg(long, env = "KRYPTON_DISCOVERY_TOKEN_FILE", value_name = "PATH")]
    pub discovery_token_file: Option<PathBuf>,

    /// What the controller knows this gateway by: unique among the gateways [default: the host's name]
    #[arg(long, env = "KRYPTON_NODE_ID", value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub node_id: Option<String>,

    /// Keep the last routes in this file, to start from while no controller answers
    #[arg(long, env = "KRYPTON_SNAPSHOT_FILE", value_name = "PATH")]
    pub snapshot_file: Option<PathBuf>,

    /// Networks whose X-Forwarded-* headers are believed, e.g. that of the ingress
    #[arg(long, env = "KRYPTON_TRUSTED_PROXIES", value_delimiter = ',', value_name = "CIDR,...", value_parser = parse_network)]
    pub trusted_proxies: Vec<IpNet>,

    /// Hosts that are served; others get 421 [default: any]
    #[arg(long, env = "KRYPTON_ALLOWED_HOSTS", value_delimiter = ',', value_name = "HOST,...")]
    pub allowed_hosts: Vec<String>,

    /// Networks that are never dialled, whatever the controller says
    #[arg(long, env = "KRYPTON_DENY_CIDRS", value_delimiter = ',', value_name = "CIDR,...", value_parser = parse_network)]
    pub deny_cidrs: Vec<IpNet>,

    /// Dial loopback addresses: only for agents on this very machine
    #[arg(long, env = "KRYPTON_ALLOW_LOOPBACK_ENDPOINTS")]
    pub allow_loopback_endpoints: bool,

    /// Worker threads [default: as many as the CPUs it may use]
    #[arg(long, env = "KRYPTON_THREADS", value_name = "N", value_parser = count)]
    pub threads: Option<NonZeroUsize>,

    /// Connections of clients at one time; further ones wait
    #[arg(long, env = "KRYPTON_MAX_CONNECTIONS", default_value = "65536", value_name = "N", value_parser = count)]
    pub max_connections: NonZeroUsize,

    /// Time for a request's complete header, from its first byte
    #[arg(long, env = "KRYPTON_HEADER_TIMEOUT", default_value = "10s", value_name = "DURATION", value_parser = above_zero)]
    pub header_timeout: Duration,

    /// How long a client's connection may be idle between calls
    #[arg(long, env = "KRYPTON_KEEPALIVE_TIMEOUT", default_value = "75s", value_name = "DURATION", value_parser = above_zero)]
    pub keepalive_timeout: Duration,

    /// How long a client may pause while it sends a request's body
    #[arg(long, env = "KRYPTON_UPLOAD_TIMEOUT", default_value = "60s", value_name = "DURATION", value_parser = above_zero)]
    pub upload_timeout: Duration,

    /// How long a client may leave an answer unread
    #[arg(long, env = "KRYPTON_CLIENT_WRITE_TIMEOUT", default_value = "60s", value_name = "DURATION", value_parser = above_zero)]
    pub client_write_timeout: Duration,

    /// How long a connection to a pod may take
    #[arg(long, env = "KRYPTON_CONNECT_TIMEOUT", default_value = "2s", value_name = "DURATION", value_parser = above_zero)]
    pub connect_timeout: Duration,

    /// After SIGTERM: how long connections are still accepted, until everybody knows
    #[arg(long, env = "KRYPTON_DRAIN_DELAY", default_value = "5s", value_name = "DURATION", value_parser = duration)]
    pub drain_delay: Duration,

    /// After that: how long running calls may go on
    #[arg(long, env = "KRYPTON_DRAIN_TIMEOUT", default_value = "300s", value_name = "DURATION", value_parser = duration)]
    pub drain_timeout: Duration,

    /// Whether each call is a line on standard output
    #[arg(long, env = "KRYPTON_ACCESS_LOG", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub access_log: bool,

    /// Whether the synthetic probe is answered, by which `kubectl krypton doctor` looks at the ingress in front
    #[arg(long, env = "KRYPTON_PROBE", default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub probe: bool,

    /// What is logged, and how
    #[command(flatten)]
    pub log: LogArgs,
}

/// `http://host:port` or `https://host:port`. Anything else would be spoken to in plain text all the same.
fn discovery_url(text: &str) -> Result<tonic::transport::Uri, String> {
    let url: tonic::transport::Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (url.scheme_str(), url.host()) {
        (Some("http" | "https"), Some(_)) => Ok(url),
        _ => Err("must be https://HOST:PORT or http://HOST:PORT".to_owned()),
    }
}

fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().map_err(|_| "expected an IP address and a port such as 0.0.0.0:8080 or [::]:8080")
}

fn count(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "expected a whole number above 0, such as 4")
}

/// `10s`, `1m30s`, `250ms`.
fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "expected a duration such as 500ms, 10s or 1m30s".to_owned())
}

fn above_zero(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be above 0".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, String> {
        let args = std::iter::once("krypton-gateway").chain(args.iter().copied());
        Args::try_parse_from(args).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_is_well_formed() {
        use clap::CommandFactory as _;
        Args::command().debug_assert();
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
    fn lists_are_split_at_commas() {
        let args = parse(&["--trusted-proxies", "10.0.0.0/8,fd00::/8", "--allowed-hosts", "a,b"]).unwrap();
        assert_eq!(args.trusted_proxies.len(), 2);
        assert_eq!(args.allowed_hosts, ["a", "b"]);
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (flag, value) in [
            ("--listen", "8080"),
            ("--discovery", "not a url"),
            ("--discovery", "ftp://controller:9090"),
            ("--discovery", "controller:9090"),
            ("--trusted-proxies", "10.0.0.1/99"),
            ("--node-id", ""),
            ("--header-timeout", "0s"),
            ("--header-timeout", "ten"),
            ("--connect-timeout", "-1s"),
            ("--max-connections", "0"),
            ("--threads", "0"),
            ("--access-log", "maybe"),
            ("--probe", "2"),
        ] {
            let error = parse(&[&format!("{flag}={value}")]).unwrap_err();
            assert!(error.contains(flag), "{flag}={value}: {error}");
        }
        assert!(parse(&["--no-such-flag"]).is_err());
    }

    #[test]
    fn what_is_refused_is_told_what_the_flag_takes() {
        for (flag, value, sentence) in [
            ("--listen", "8080", "an IP address and a port such as 0.0.0.0:8080"),
            ("--admin-listen", "localhost:8081", "an IP address and a port such as 0.0.0.0:8080"),
            ("--trusted-proxies", "ten", "expected a CIDR such as 10.0.0.0/8"),
            ("--deny-cidrs", "10.0.0.7", "expected a CIDR such as 10.0.0.7/32"),
            ("--threads", "two", "expected a whole number above 0, such as 4"),
            ("--max-connections", "-1", "expected a whole number above 0, such as 4"),
            ("--drain-delay", "10", "expected a duration such as 500ms, 10s or 1m30s"),
            ("--log-level", "loud", "expected off, error, warn, info, debug or trace"),
        ] {
            let error = parse(&[&format!("{flag}={value}")]).unwrap_err();
            assert!(error.contains(sentence), "{flag}={value}: {error}");
        }
    }

    #[test]
    fn durations_are_written_as_in_the_chart() {
        let args = parse(&["--drain-delay", "1m30s", "--upload-timeout", "1h5m"]).unwrap();
        assert_eq!(args.drain_delay, Duration::from_secs(90));
        assert_eq!(args.upload_timeout, Duration::from_mins(65));
    }

    #[test]
    fn a_drain_may_be_immediate() {
        let args = parse(&["--drain-delay", "0s", "--drain-timeout", "0s"]).unwrap();
        assert_eq!((args.drain_delay, args.drain_timeout), (Duration::ZERO, Duration::ZERO));
    }
}
