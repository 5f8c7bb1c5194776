//! A request of HTTP/1.1 as it comes in: its head, and where its body ends. Pure: works on bytes that were read.

use httparse::{Request, Status};

/// Headers that a request may have.
const MAX_HEADERS: usize = 64;

/// What the origin knows of a request from its head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// Bytes of the head.
    pub length: usize,
    /// How its body ends.
    pub body: Body,
    /// Whether the connection goes on after the answer.
    pub keeps: bool,
    /// Whether the client waits for a word before it sends the body.
    pub expects_continue: bool,
    /// What a client that wants a WebSocket sent as its key.
    pub websocket_key: Option<String>,
}

/// How a body ends, and how much of it is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// After so many bytes.
    Length(u64),
    /// With a chunk of no bytes; so many bytes of this chunk, with its line end, are still to come.
    Chunks(u64),
    /// All of it has come.
    Done,
}

/// What came is no request that we understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a request of HTTP/1.1")]
pub struct Malformed;

// === impl Head ===

impl Head {
    /// The head at the begin of `bytes`, `None` while it is not whole.
    ///
    /// # Errors
    /// It is malformed.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = Request::new(&mut headers);
        let Status::Complete(length) = request.parse(bytes).map_err(|_| Malformed)? else { return Ok(None) };
        if request.version != Some(1) {
            return Err(Malformed);
        }
        let mut head = Self {
            method: request.method.unwrap_or_default().to_owned(),
            target: request.path.unwrap_or_default().to_owned(),
            length,
            body: Body::Done,
            keeps: true,
            expects_continue: false,
            websocket_key: None,
        };
        for header in request.headers.iter() {
            head.note(header.name, header.value)?;
        }
        Ok(Some(head))
    }

    fn note(&mut self, name: &str, value: &[u8]) -> Result<(), Malformed> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
            let length = length.ok_or(Malformed)?;
            if self.body == Body::Done && length > 0 {
                self.body = Body::Length(length);
            }
        } else if is("transfer-encoding") {
            self.body = Body::Chunks(0);
        } else if is("connection") && value.eq_ignore_ascii_case(b"close") {
            self.keeps = false;
        } else if is("expect") {
            self.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
        } else if is("sec-websocket-key") {
            self.websocket_key = Some(String::from_utf8(value.to_vec()).map_err(|_| Malformed)?);
        }
        Ok(())
    }
}

/// Headers and target as JSON: what [`super::plan::Answer::Echo`] answers.
#[must_use]
pub fn echo<'a>(target: &str, headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let headers: Vec<_> = headers
        .map(|(name, value)| (name.to_ascii_lowercase(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    serde_json::json!({ "target": target, "headers": headers }).to_string().into_bytes()
}

/// [`echo`] of a head that was read before.
#[must_use]
pub fn echo_of_head(bytes: &[u8]) -> Vec<u8> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = Request::new(&mut headers);
    request.parse(bytes).ok();
    let target = request.path.unwrap_or_default();
    echo(target, request.headers.iter().map(|header| (header.name, header.value)))
}

// === impl Body ===

impl Body {
    /// Takes what `bytes` hold of it: how many bytes of them are used up, and how many of those were the body's own.
    /// With none used up and the body not done, more must be read.
    ///
    /// # Errors
    /// A chunk's head is malformed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, u64), Malformed> {
        let (mut used, mut counted) = (0, 0);
        loop {
            let rest = &bytes[used..];
            match *self {
                Body::Done => break,
                Body::Length(left) => {
                    let taken = left.min(rest.len() as u64);
                    used += usize::try_from(taken).map_err(|_| Malformed)?;
                    counted += taken;
                    *self = if taken == left { Body::Done } else { Body::Length(left - taken) };
                    break;
                }
                Body::Chunks(0) => {
                    let Status::Complete((head, size)) =
                        httparse::parse_chunk_size(rest).map_err(|_| Malformed)?
                    else {
                        break;
                    };
                    if size == 0 {
                        // No trailers are taken: what follows is the empty line.
                        if rest.len() < head + 2 {
                            break;
                        }
                        used += head + 2;
                        *self = Body::Done;
                    } else {
                        used += head;
                        *self = Body::Chunks(size.checked_add(2).ok_or(Malformed)?);
                    }
                }
                Body::Chunks(left) => {
                    if rest.is_empty() {
                        break;
                    }
                    let taken = left.min(rest.len() as u64);
                    used += usize::try_from(taken).map_err(|_| Malformed)?;
                    // The last two bytes of it are the line end.
                    counted += left.saturating_sub(2).min(taken);
                    *self = Body::Chunks(left - taken);
                }
            }
        }
        Ok((used, counted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_tells_how_the_body_ends() {
        let head = |text: &str| Head::parse(text.as_bytes());
        assert_eq!(head("GET / HTTP/1.1\r\nhost: a\r\n"), Ok(None));
        let get = head("GET /x?y HTTP/1.1\r\nhost: a\r\n\r\nGET").unwrap().unwrap();
        assert_eq!((get.target.as_str(), get.length, get.body, get.keeps), ("/x?y", 30, Body::Done, true));
        let post =
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
        let post = head(post).unwrap().unwrap();
        assert_eq!((post.body, post.keeps, post.expects_continue), (Body::Length(5), false, true));
        let chunked = head("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n").unwrap().unwrap();
        assert_eq!(chunked.body, Body::Chunks(0));
        assert_eq!(head("GET / HTTP/1.0\r\n\r\n"), Err(Malformed));
        assert_eq!(head("GET / HTTP/1.1\r\ncontent-length: x\r\n\r\n"), Err(Malformed));
        assert_eq!(head("hello\r\n\r\n"), Err(Malformed));
    }

    /// Feeds `bytes` in pieces of `size`, as sockets do, and gives the body's bytes and what is left over.
    fn feed(mut body: Body, bytes: &[u8], size: usize) -> (Body, u64, usize) {
        let (mut buffer, mut counted) = (Vec::new(), 0);
        let mut pieces = bytes.chunks(size);
        while body != Body::Done {
            let (used, more) = body.take(&buffer).unwrap();
            buffer.drain(..used);
            counted += more;
            if used == 0 {
                let Some(piece) = pieces.next() else { break };
                buffer.extend_from_slice(piece);
            }
        }
        (body, counted, buffer.len() + pieces.map(<[u8]>::len).sum::<usize>())
    }

    #[test]
    fn bodies_are_counted_in_whatever_pieces_they_come() {
        let chunks = b"5\r\nhello\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\nGET / HTTP/1.1";
        for size in [1, 2, 3, 7, 100] {
            assert_eq!(feed(Body::Chunks(0), chunks, size), (Body::Done, 21, 14), "{size}");
            assert_eq!(feed(Body::Length(10), b"0123456789GET", size), (Body::Done, 10, 3), "{size}");
        }
        assert_eq!(feed(Body::Chunks(0), b"5\r\nhel", 2), (Body::Chunks(4), 3, 0));
        assert_eq!(Body::Chunks(0).take(b"zz\r\n"), Err(Malformed));
    }
}
