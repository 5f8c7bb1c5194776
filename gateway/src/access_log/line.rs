//! The form of a line. Built without a JSON library and without `format!`, in one buffer: this runs once a call, and
//! formatting took a twelfth of all instructions of one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::Method;
use krypton_discovery::AgentKey;

use crate::proxy::error::Outcome;
use crate::text::{push_ip, push_number};

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

/// A line that grows. Each method adds what stands before the value and then the value, `null` where there is none.
struct Line(Vec<u8>);

// === impl AccessLine ===

impl AccessLine<'_> {
    /// One line of JSON with its end.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut line = Line(Vec::with_capacity(USUAL_BYTES));
        let (agent, namespace) = self.agent.map(|key| (key.name(), key.namespace())).unzip();
        line.time(r#"{"time":"#, self.time);
        line.text(r#","request_id":"#, Some(self.request_id.as_bytes()));
        line.text(r#","agent":"#, agent.map(str::as_bytes));
        line.text(r#","namespace":"#, namespace.map(str::as_bytes));
        line.text(r#","method":"#, Some(method_name(self.method).as_bytes()));
        line.text(r#","path":"#, Some(path_of(self.target)));
        line.text(r#","protocol":"#, Some(if self.is_h2 { b"h2" } else { b"h1" }));
        line.address(r#","client":"#, self.client);
        line.number(r#","status":"#, self.status);
        line.text(r#","outcome":"#, Some(self.outcome.as_str().as_bytes()));
        line.millis(r#","duration_ms":"#, Some(self.duration));
        line.millis(r#","ttfb_ms":"#, self.time_to_first_byte);
        line.number(r#","bytes_in":"#, Some(self.bytes_in));
        line.number(r#","bytes_out":"#, Some(self.bytes_out));
        line.number(r#","attempts":"#, Some(self.attempts));
        line.address(r#","endpoint":"#, self.endpoint);
        line.push(b"}\n");
        line.0
    }
}

// === impl Line ===

impl Line {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// What comes before a value, and `null` where there is none.
    fn value<T>(&mut self, before: &str, value: Option<T>) -> Option<T> {
        self.push(before.as_bytes());
        if value.is_none() {
            self.push(b"null");
        }
        value
    }

    fn number(&mut self, before: &str, value: Option<impl Into<u64>>) {
        if let Some(value) = self.value(before, value) {
            push_number(&mut self.0, value);
        }
    }

    fn text(&mut self, before: &str, value: Option<&[u8]>) {
        let Some(value) = self.value(before, value) else { return };
        self.push(b"\"");
        // Nearly all of them.
        if value.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
            self.push(value);
        } else {
            // Writing into a Vec cannot fail.
            write!(self.0, "{}", Escaped(value)).ok();
        }
        self.push(b"\"");
    }

    /// In milliseconds, to the microsecond.
    fn millis(&mut self, before: &str, value: Option<Duration>) {
        let Some(value) = self.value(before, value) else { return };
        let us = u64::try_from(value.as_micros()).unwrap_or(u64::MAX);
        push_number(&mut self.0, us / 1000);
        let rest = (us % 1000).to_le_bytes();
        let rest = u16::from_le_bytes([rest[0], rest[1]]);
        let digit = |unit: u16| b'0' + (rest / unit % 10).to_le_bytes()[0];
        self.push(&[b'.', digit(100), digit(10), digit(1)]);
    }

    fn time(&mut self, before: &str, value: SystemTime) {
        self.push(before.as_bytes());
        // Writing into a Vec cannot fail.
        write!(self.0, "\"{}\"", humantime::format_rfc3339_millis(value)).ok();
    }

    fn address(&mut self, before: &str, value: Option<SocketAddr>) {
        let Some(value) = self.value(before, value) else { return };
        self.push(b"\"");
        match value {
            SocketAddr::V4(value) => {
                push_ip(&mut self.0, (*value.ip()).into());
                self.push(b":");
                push_number(&mut self.0, value.port());
            }
            // Writing into a Vec cannot fail.
            SocketAddr::V6(value) => drop(write!(self.0, "{value}")),
        }
        self.push(b"\"");
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
