//! What an instance is told when it starts. Values are parsed here once; everything behind gets valid ones.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::HeaderValue;

use crate::knobs::duration;

/// Start-up options of one instance.
#[derive(Debug, Clone, clap::Parser)]
#[command(name = "krypton-example-agent", version, about, max_term_width = 100)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one. Default: all IPv4 addresses, at --port.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Port to listen on when --listen is not given.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Name of this instance: in reports, in the agent card, and in the header x-agent-name of every answer.
    /// Default: the host's name, which in a cluster is the pod's.
    #[arg(long, value_parser = header_text)]
    pub name: Option<String>,
    /// What the header x-agent-version of every answer says. Not sent when unset.
    #[arg(long, env = "AGENT_VERSION", value_parser = header_text)]
    pub agent_version: Option<String>,
    /// Serve MCP without sessions, as an agent with several pods must where nothing keeps a session on its pod.
    #[arg(long)]
    pub mcp_stateless: bool,
    /// Pause between two words of a spoken answer (A2A, /stream) when the call does not say.
    #[arg(long, value_parser = duration_arg, default_value = "60ms")]
    pub pace: Duration,
    /// How long open answers may go on after SIGTERM before they are cut.
    #[arg(long, value_parser = duration_arg, default_value = "60s")]
    pub drain_timeout: Duration,
    /// Open connections at one time; more wait in the kernel's accept queue.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,
}

// === impl Args ===

impl Args {
    /// An instance for tests and benches in the same process: loopback, a free port, words without a pause.
    pub fn local(name: &str) -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            port: 0,
            name: Some(name.to_owned()),
            agent_version: None,
            mcp_stateless: false,
            pace: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            max_connections: 10_000,
        }
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), self.port))
    }

    /// The name of the instance, as given or as the host is called.
    pub(crate) fn instance_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| {
            hostname::get()
                .ok()
                .and_then(|name| header_text(&name.to_string_lossy()).ok())
                .unwrap_or_else(|| "agent".to_owned())
        })
    }
}

/// Accepts only what can stand in a header, since the name goes into one.
fn header_text(text: &str) -> Result<String, &'static str> {
    let fits =
        !text.is_empty() && text.len() <= 253 && HeaderValue::from_str(text).is_ok() && text.is_ascii();
    fits.then(|| text.to_owned()).ok_or("expected 1 to 253 printable ASCII characters")
}

fn duration_arg(text: &str) -> Result<Duration, &'static str> {
    duration(text).ok_or("expected a whole number and a unit (us, ms, s, m or h), such as 250ms; at most 24h")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["agent"].iter().chain(args))
    }

    #[test]
    fn the_port_counts_only_without_an_address() {
        assert_eq!(parse(&["--port", "9"]).unwrap().address().to_string(), "0.0.0.0:9");
        let args = parse(&["--port", "9", "--listen", "127.0.0.1:0"]).unwrap();
        assert_eq!(args.address().to_string(), "127.0.0.1:0");
    }

    #[test]
    fn an_unnamed_instance_is_called_as_its_host() {
        let host = hostname::get().unwrap().to_string_lossy().into_owned();
        assert_eq!(parse(&[]).unwrap().instance_name(), host);
        assert_eq!(parse(&["--name", "a-1"]).unwrap().instance_name(), "a-1");
    }

    #[test]
    fn bad_values_are_refused_by_name() {
        for (flag, bad) in [
            ("--name", "a\nb"),
            ("--name", ""),
            ("--agent-version", "1\n"),
            ("--pace", "5"),
            ("--drain-timeout", "1 s"),
            ("--max-connections", "0"),
            ("--port", "65536"),
            ("--listen", "8080"),
        ] {
            let error = parse(&[flag, bad]).expect_err(bad).to_string();
            assert!(error.contains(flag), "{error}");
        }
    }
}
