//! Values of flags that are more than a word, each parsed once.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::time::Duration;

use ::http::{HeaderName, HeaderValue};
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap_complete::Shell;

/// A header to send. Its value may be a credential, and is marked as one.
pub type Header = (HeaderName, HeaderValue);

/// An answer given instead of DNS's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolve {
    /// Host as the URL has it, in small letters.
    pub host: String,
    /// Port as the URL has it.
    pub port: u16,
    /// Where to connect.
    pub address: IpAddr,
}

/// Parses [`Header`]s. One of its own, since clap shows a value that is refused, and this may be a secret.
#[derive(Clone)]
pub(super) struct HeaderParser;

// === impl Resolve ===

impl std::str::FromStr for Resolve {
    type Err = String;

    /// `HOST:PORT:ADDR` as curl takes it; an IPv6 address may stand in brackets.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not HOST:PORT:ADDR, e.g. agents.example.com:443:10.0.0.7");
        let mut parts = text.splitn(3, ':');
        let (Some(host), Some(port), Some(address)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        let address = address.trim_start_matches('[').trim_end_matches(']');
        match (port.parse(), address.parse()) {
            (Ok(port), Ok(address)) if !host.is_empty() => {
                Ok(Self { host: host.to_ascii_lowercase(), port, address })
            }
            _ => Err(wrong()),
        }
    }
}

// === impl HeaderParser ===

impl TypedValueParser for HeaderParser {
    type Value = Header;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Header, clap::Error> {
        let parsed = value.to_str().ok_or("is not UTF-8".to_owned()).and_then(header);
        parsed.map_err(|why| {
            let error = clap::Error::raw(ErrorKind::ValueValidation, format!("--header {why}\n"));
            error.with_cmd(command)
        })
    }
}

/// Never says what it was given, but for a name.
fn header(text: &str) -> Result<Header, String> {
    let (name, value) = text.split_once(':').ok_or("must be NAME: VALUE; one has no colon")?;
    let name: HeaderName = name.trim().parse().map_err(|_| "must be NAME: VALUE; one has no valid name")?;
    let value = value.trim().parse::<HeaderValue>();
    let mut value = value.map_err(|_| format!("{name}: its value has a control character"))?;
    // Kept out of whatever shows the arguments.
    value.set_sensitive(true);
    Ok((name, value))
}

/// An agent with its path and query, which are sent as they are written: what cannot stand in a path is refused, with
/// what can stand for it.
pub(super) fn agent(text: &str) -> Result<String, String> {
    // A query may hold a URL too; what is one as a whole begins with its scheme.
    let url = text.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?']));
    if let Some((scheme, behind)) = url {
        let host = behind.find(['/', '?']).map_or(behind, |end| &behind[..end]);
        let (base, agent) = behind.split_once("/v1/agents/").unwrap_or((host, "NAMESPACE/NAME/PATH"));
        return Err(format!("is a URL; write --url {scheme}://{base} {agent}"));
    }
    let cannot_stand = |c: &char| !c.is_ascii_graphic() || matches!(c, '#' | '<' | '>' | '`' | '"');
    let Some(wrong) = text.chars().find(cannot_stand) else { return Ok(text.to_owned()) };
    let mut bytes = [0; 4];
    let encoded = wrong.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}"));
    Err(format!(
        "expected NAMESPACE/NAME/PATH, where {wrong:?} cannot stand; in the path or query it is written {}",
        encoded.collect::<String>()
    ))
}

/// What the gateway's probe takes: 1 ms to 15 min.
pub(super) fn silence(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|_| "expected a duration such as 65s or 5m30s")?;
    if duration.is_zero() || duration > Duration::from_mins(15) {
        return Err(
            "must be above 0 and at most 15m, which is as long as the gateway's probe goes".to_owned()
        );
    }
    Ok(duration)
}

pub(super) fn shell(text: &str) -> Result<Shell, String> {
    match text {
        "bash" => Ok(Shell::Bash),
        "zsh" => Ok(Shell::Zsh),
        "fish" => Ok(Shell::Fish),
        _ => Err("must be bash, zsh or fish".to_owned()),
    }
}
