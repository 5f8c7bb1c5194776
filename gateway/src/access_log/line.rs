//! The form of a line. Built without a JSON library, in one buffer: this runs once a call.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::Method;
use krypton_discovery::AgentKey;

use crate::proxy::error::Outcome;

/// The longest part of a path that is logged, in bytes.
const MAX_PATH_BYTES: usize = 512;

/// A line of usual length fits without growing.
const USUAL_BYTES: usize = 512;

/// What is logged of one call. `None` becomes `null`.
#[derive(Debug, Clone, Copy)]
pub struct AccessLine<'a> {
    /// When the call ended.
    pub time: SystemTime,
    /// What ties the line to the client's and the agent's.
    pub request_id: &'a str,
    /// Whom it was for, `None` for what is no Agent.
    pub agent: Option<&'a AgentKey>,
    /// A method that HTTP does not define is logged as `OTHER`.
    pub method: &'a Method,
    /// As the client sent it. The query is left out here.
    pub target: &'a [u8],
    /// Whether the client spoke HTTP/2.
    pub is_h2: bool,
    /// Who called.
    pub client: Option<SocketAddr>,
    /// What the client was sent, `None` where it left before there was one.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// From the request's head to the end.
    pub duration: Duration,
    /// From the request's head to the first byte of the answer.
    pub time_to_first_byte: Option<Duration>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// How often an agent was dialled or written to.
    pub attempts: u8,
    /// The pod that was tried last.
    pub endpoint: Option<SocketAddr>,
}

/// Escaped for a JSON string. What is not UTF-8 is spelled `\xff`, with one backslash once the JSON is read.
struct Escaped<'a>(&'a [u8]);

/// In milliseconds, to the microsecond.
struct Millis(Duration);

// === impl AccessLine ===

impl AccessLine<'_> {
    /// One line of JSON with its end.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut line = Vec::with_capacity(USUAL_BYTES);
        // Writing into a Vec cannot fail.
        self.write(&mut line).ok();
        line
    }

    fn write(&self, line: &mut Vec<u8>) -> std::io::Result<()> {
        let path = Escaped(path_of(self.target));
        let (agent, namespace) = self.agent.map(|key| (key.name(), key.namespace())).unzip();
        let (method, protocol) = (method_name(self.method), if self.is_h2 { "h2" } else { "h1" });
        write!(line, r#"{{"time":"{}""#, humantime::format_rfc3339_millis(self.time))?;
        write!(line, r#","request_id":"{}""#, Escaped(self.request_id.as_bytes()))?;
        text(line, "agent", agent)?;
        text(line, "namespace", namespace)?;
        write!(line, r#","method":"{method}","path":"{path}","protocol":"{protocol}""#)?;
        text(line, "client", self.client)?;
        number(line, "status", self.status)?;
        write!(line, r#","outcome":"{}""#, self.outcome.as_str())?;
        number(line, "duration_ms", Some(Millis(self.duration)))?;
        number(line, "ttfb_ms", self.time_to_first_byte.map(Millis))?;
        write!(line, r#","bytes_in":{},"bytes_out":{}"#, self.bytes_in, self.bytes_out)?;
        write!(line, r#","attempts":{}"#, self.attempts)?;
        text(line, "endpoint", self.endpoint)?;
        line.write_all(b"}\n")
    }
}

/// `value` needs no escaping.
fn text(line: &mut Vec<u8>, key: &str, value: Option<impl std::fmt::Display>) -> std::io::Result<()> {
    match value {
        Some(value) => write!(line, r#","{key}":"{value}""#),
        None => write!(line, r#","{key}":null"#),
    }
}

fn number(line: &mut Vec<u8>, key: &str, value: Option<impl std::fmt::Display>) -> std::io::Result<()> {
    match value {
        Some(value) => write!(line, r#","{key}":{value}"#),
        None => write!(line, r#","{key}":null"#),
    }
}

/// Without the query, and cut, but not within a character.
fn path_of(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let path = &target[..end];
    if path.len() <= MAX_PATH_BYTES {
        return path;
    }
    let continues = |at: &usize| path[*at] & 0b1100_0000 == 0b1000_0000;
    // A character has at most three bytes that continue it.
    let cut = (MAX_PATH_BYTES - 3..=MAX_PATH_BYTES).rev().find(|at| !continues(at)).unwrap_or(MAX_PATH_BYTES);
    &path[..cut]
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "OTHER",
    }
}

// === impl Escaped ===

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |c: char| !c.is_control() && !matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}');
        for chunk in self.0.utf8_chunks() {
            let mut rest = chunk.valid();
            while let Some(at) = rest.find(|c| !plain(c)) {
                f.write_str(&rest[..at])?;
                let mut after = rest[at..].chars();
                match after.next() {
                    Some(c @ ('"' | '\\')) => write!(f, "\\{c}")?,
                    Some(c) => write!(f, "\\u{:04x}", u32::from(c))?,
                    None => f.write_char(char::REPLACEMENT_CHARACTER)?,
                }
                rest = after.as_str();
            }
            f.write_str(rest)?;
            for byte in chunk.invalid() {
                write!(f, "\\\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

// === impl Millis ===

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let us = self.0.as_micros();
        write!(f, "{}.{:03}", us / 1000, us % 1000)
    }
}
