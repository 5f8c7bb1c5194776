//! A connection that speaks HTTP/1.1.
//!
//! Owns: one socket, a buffer for heads that is used again and again, and where an answer ends. Bodies are read into a
//! buffer that all connections of a thread share, since nobody keeps them. Never sends a request while an answer comes.
//!
//! A small answer costs what it must: a write, a read.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;

use super::exchange::{Begun, Deadline, Dialer, Exchange, Rest};
use super::failure::Failure;
use super::mix::Prepared;
use super::record::Recorder;
use super::wire::{self, Body, Malformed};

/// The longest head that is read.
const MAX_HEAD: usize = 64 * 1024;

/// Bytes that one read of a body takes at most.
const SCRATCH: usize = 64 * 1024;

/// Where bodies of all connections of a thread are read to.
pub(super) type Scratch = Rc<RefCell<Box<[u8]>>>;

/// A connection.
#[derive(Debug)]
pub(super) struct Http1 {
    dialer: Dialer,
    recorder: Recorder,
    scratch: Scratch,
    stream: Option<TcpStream>,
    was_connected: bool,
    deadline: Deadline,
    /// Read, and not taken: `buffer[from..to]`.
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    /// What is left of the answer.
    body: Body,
    keep_alive: bool,
}

/// A new buffer for [`Http1::new`].
pub(super) fn scratch() -> Scratch {
    Rc::new(RefCell::new(vec![0; SCRATCH].into_boxed_slice()))
}

// === impl Http1 ===

impl Http1 {
    /// One that is not connected, with `buffer` bytes for heads and for what comes with them.
    pub(super) fn new(dialer: Dialer, recorder: Recorder, scratch: Scratch, buffer: usize) -> Self {
        Self {
            dialer,
            recorder,
            scratch,
            stream: None,
            was_connected: false,
            deadline: Deadline::new(dialer.timeout),
            buffer: vec![0; buffer],
            from: 0,
            to: 0,
            body: Body::Length(0),
            keep_alive: true,
        }
    }

    async fn send_and_read_head(&mut self, prepared: &Prepared) -> Result<Begun, Failure> {
        self.connect().await?;
        self.deadline.set(self.dialer.timeout);
        (self.from, self.to) = (0, 0);
        let whole = self.send(prepared).await?;
        loop {
            let read = self.read_more().await?;
            if read == 0 {
                return Err(if self.to == 0 { Failure::Closed } else { Failure::ShortBody });
            }
            while let Some(head) = wire::head(&self.buffer[self.from..self.to], prepared.is_head())? {
                self.from += head.bytes;
                if head.status >= 200 {
                    self.body = head.body;
                    self.keep_alive = head.keep_alive && whole;
                    return Ok(Begun { status: head.status, event_stream: head.event_stream });
                }
            }
        }
    }

    /// Whether all of it was sent: a server may answer before it has read everything.
    async fn send(&mut self, prepared: &Prepared) -> Result<bool, Failure> {
        let stream = self.stream.as_mut().ok_or(Failure::Closed)?;
        let deadline = &mut self.deadline;
        let (mut head, mut body) = (&prepared.head[..], &prepared.body[..]);
        std::future::poll_fn(|context| {
            while !head.is_empty() || !body.is_empty() {
                match poll_write(stream, head, body, context) {
                    Poll::Ready(Ok(sent)) => {
                        let of_head = sent.min(head.len());
                        head = &head[of_head..];
                        body = &body[sent - of_head..];
                    }
                    // What it has to say may still be there to be read.
                    Poll::Ready(Err(_)) => return Poll::Ready(Ok(false)),
                    Poll::Pending if has_answer(stream, context) => return Poll::Ready(Ok(false)),
                    Poll::Pending => return deadline.poll(context).map(|()| Err(Failure::Timeout)),
                }
            }
            Poll::Ready(Ok(true))
        })
        .await
    }

    /// Appends to the buffer; 0: the other side has closed.
    async fn read_more(&mut self) -> Result<usize, Failure> {
        if self.to == self.buffer.len() {
            if self.to >= MAX_HEAD {
                return Err(Failure::Malformed);
            }
            self.buffer.resize((2 * self.to).clamp(1024, MAX_HEAD), 0);
        }
        let stream = self.stream.as_mut().ok_or(Failure::Closed)?;
        let (deadline, free) = (&mut self.deadline, &mut self.buffer[self.to..]);
        let read = std::future::poll_fn(|context| poll_read(stream, deadline, free, context)).await?;
        self.to += read;
        Ok(read)
    }

    async fn read_body(&mut self, sink: &mut impl FnMut(&[u8])) -> Result<Rest, Failure> {
        if self.from < self.to {
            let bytes = &self.buffer[self.from..self.to];
            self.from = self.to;
            return Ok(take(&mut self.body, bytes, sink)?);
        }
        if self.body == Body::Length(0) {
            return Ok(Rest::Nothing);
        }
        let stream = self.stream.as_mut().ok_or(Failure::Closed)?;
        let (deadline, scratch) = (&mut self.deadline, &*self.scratch);
        let read =
            std::future::poll_fn(|context| poll_read(stream, deadline, &mut scratch.borrow_mut(), context))
                .await?;
        if read == 0 {
            return if self.body == Body::UntilClose { Ok(Rest::Nothing) } else { Err(Failure::ShortBody) };
        }
        Ok(take(&mut self.body, &self.scratch.borrow()[..read], sink)?)
    }
}

impl Exchange for Http1 {
    async fn connect(&mut self) -> Result<(), Failure> {
        if self.stream.is_some() {
            return Ok(());
        }
        self.stream = Some(self.dialer.dial().await?);
        if self.was_connected {
            self.recorder.reconnected();
        }
        self.was_connected = true;
        Ok(())
    }

    async fn begin(&mut self, prepared: &Prepared) -> Result<Begun, Failure> {
        let begun = self.send_and_read_head(prepared).await;
        if begun.is_err() {
            self.stream = None;
        }
        begun
    }

    async fn part(&mut self, sink: &mut impl FnMut(&[u8])) -> Result<Rest, Failure> {
        let rest = self.read_body(sink).await;
        if rest.is_err() || (rest == Ok(Rest::Nothing) && !self.keep_alive) {
            self.stream = None;
        }
        rest
    }

    fn no_deadline(&mut self) {
        self.deadline.clear();
    }

    async fn closed(&mut self) -> Failure {
        self.deadline.clear();
        let Some(stream) = self.stream.as_mut() else { return Failure::Closed };
        let mut byte = [0];
        let (deadline, byte) = (&mut self.deadline, &mut byte[..]);
        let read = std::future::poll_fn(|context| poll_read(stream, deadline, byte, context)).await;
        self.stream = None;
        match read {
            Ok(0) => Failure::Closed,
            Ok(_) => Failure::Malformed,
            Err(failure) => failure,
        }
    }
}

impl From<Malformed> for Failure {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Gives the part of the body in `bytes` to `sink`. Nothing may follow the body: no other request was sent.
fn take(body: &mut Body, bytes: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<Rest, Malformed> {
    let done = match body {
        Body::Length(left) => {
            *left = left.checked_sub(bytes.len() as u64).ok_or(Malformed)?;
            sink(bytes);
            *left == 0
        }
        Body::Chunked(chunks) => {
            if !chunks.take(bytes, &mut *sink)?.is_empty() {
                return Err(Malformed);
            }
            chunks.is_done()
        }
        Body::UntilClose => {
            sink(bytes);
            false
        }
    };
    Ok(if done { Rest::Nothing } else { Rest::More })
}

fn poll_write(
    stream: &mut TcpStream,
    head: &[u8],
    body: &[u8],
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    match (head.is_empty(), body.is_empty()) {
        (_, true) => stream.poll_write(context, head),
        (true, _) => stream.poll_write(context, body),
        _ => stream.poll_write_vectored(context, &[IoSlice::new(head), IoSlice::new(body)]),
    }
}

fn has_answer(stream: &TcpStream, context: &mut Context<'_>) -> bool {
    let mut byte = [0];
    stream.poll_peek(context, &mut ReadBuf::new(&mut byte)).is_ready()
}

fn poll_read(
    stream: &mut TcpStream,
    deadline: &mut Deadline,
    into: &mut [u8],
    context: &mut Context<'_>,
) -> Poll<Result<usize, Failure>> {
    let mut into = ReadBuf::new(into);
    match Pin::new(stream).poll_read(context, &mut into) {
        Poll::Ready(Ok(())) => Poll::Ready(Ok(into.filled().len())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(Failure::of_stream(&error))),
        Poll::Pending => {
            ready!(deadline.poll(context));
            Poll::Ready(Err(Failure::Timeout))
        }
    }
}
