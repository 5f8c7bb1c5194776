//! HTTP/1.1 answers as bytes.
//!
//! Owns: where a head ends, how its body is delimited (RFC 9112 §6.3), and taking chunks apart. Never reads a socket.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Response, Status};
use thiserror::Error;

/// More header fields than any server of the harness sends.
const MAX_HEADERS: usize = 64;

/// The longest line of a chunk's size, with extensions, and of a trailer.
const MAX_LINE: usize = 4096;

/// What came is not HTTP/1.1.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("the answer is not HTTP/1.1")]
pub(super) struct Malformed;

/// The head of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    /// The status code.
    pub(super) status: u16,
    /// Bytes that the head takes.
    pub(super) bytes: usize,
    /// What follows it.
    pub(super) body: Body,
    /// Whether the connection may be used again.
    pub(super) keep_alive: bool,
    /// Whether the body is a stream of events.
    pub(super) event_stream: bool,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Body {
    /// After so many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked(Chunks),
    /// When the connection is closed.
    UntilClose,
}

/// Takes chunked bodies apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Chunks {
    state: State,
    /// Of the chunk, while its size is read and while its bytes come.
    left: u64,
    /// Bytes of the line so far.
    line: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Size,
    Extension,
    Data,
    DataEnd,
    Trailer,
    Done,
}

/// Reads the head at the beginning of `bytes`; `None`: more must come.
///
/// # Errors
/// When it is not HTTP/1.1, or has more than 64 header fields.
pub(super) fn head(bytes: &[u8], to_head_request: bool) -> Result<Option<Head>, Malformed> {
    let mut fields = [const { MaybeUninit::<Header<'_>>::uninit() }; MAX_HEADERS];
    let mut response = Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
    let Status::Complete(length) = parsed.map_err(|_| Malformed)? else { return Ok(None) };
    let status = response.code.ok_or(Malformed)?;
    let mut head = Head {
        status,
        bytes: length,
        body: Body::UntilClose,
        keep_alive: response.version == Some(1),
        event_stream: false,
    };
    for field in response.headers.iter() {
        take_field(&mut head, field)?;
    }
    if to_head_request || status < 200 || status == 204 || status == 304 {
        head.body = Body::Length(0);
    }
    head.keep_alive &= head.body != Body::UntilClose;
    Ok(Some(head))
}

fn take_field(head: &mut Head, field: &Header<'_>) -> Result<(), Malformed> {
    // Most fields are told apart by their length alone.
    match field.name.len() {
        10 if field.name.eq_ignore_ascii_case("connection") => {
            head.keep_alive &= !field.value.eq_ignore_ascii_case(b"close");
        }
        12 if field.name.eq_ignore_ascii_case("content-type") => {
            head.event_stream = field.value.starts_with(b"text/event-stream");
        }
        14 if field.name.eq_ignore_ascii_case("content-length") && !matches!(head.body, Body::Chunked(_)) => {
            let text = std::str::from_utf8(field.value).map_err(|_| Malformed)?;
            head.body = Body::Length(text.trim().parse().map_err(|_| Malformed)?);
        }
        17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
            if !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed);
            }
            head.body = Body::Chunked(Chunks::new());
        }
        _ => {}
    }
    Ok(())
}

// === impl Chunks ===

impl Chunks {
    const fn new() -> Self {
        Self { state: State::Size, left: 0, line: 0 }
    }

    /// Whether the last chunk and its trailer have come.
    #[must_use]
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Gives the data in `input` to `sink`, in order. What is left over comes after the end of the body.
    ///
    /// # Errors
    /// When a size is not one, or a line is longer than 4 KiB.
    pub(super) fn take<'a>(
        &mut self,
        mut input: &'a [u8],
        mut sink: impl FnMut(&[u8]),
    ) -> Result<&'a [u8], Malformed> {
        while !input.is_empty() && self.state != State::Done {
            if self.state == State::Data {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
                let (data, rest) = input.split_at(here);
                sink(data);
                self.left -= here as u64;
                input = rest;
                if self.left == 0 {
                    self.state = State::DataEnd;
                }
                continue;
            }
            self.take_byte(input[0])?;
            input = &input[1..];
        }
        Ok(input)
    }

    fn take_byte(&mut self, byte: u8) -> Result<(), Malformed> {
        self.line += 1;
        if self.line > MAX_LINE {
            return Err(Malformed);
        }
        match (self.state, byte) {
            (State::Size | State::Extension, b'\n') if self.line > 1 => {
                self.state = if self.left == 0 { State::Trailer } else { State::Data };
                self.line = 0;
            }
            (State::Size, b'\r' | b';' | b' ' | b'\t') if self.line > 1 => self.state = State::Extension,
            (State::Size, digit) => {
                let digit = char::from(digit).to_digit(16).ok_or(Malformed)?;
                self.left = self.left.checked_mul(16).ok_or(Malformed)? + u64::from(digit);
            }
            (State::DataEnd, b'\n') => *self = Self::new(),
            // An empty line, of two bytes or of one, ends the trailer.
            (State::Trailer, b'\n') if self.line <= 2 => self.state = State::Done,
            (State::Trailer, b'\n') => self.line = 0,
            // A line "x\n" would count as empty: no field is that short, but a peer must not be able to pretend.
            (State::Trailer, byte) if self.line == 1 && byte != b'\r' => self.line = 2,
            (State::DataEnd, b'\r') | (State::Extension | State::Trailer, _) => {}
            _ => return Err(Malformed),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
