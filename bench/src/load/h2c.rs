//! Streams of a connection that speaks HTTP/2 in the clear.
//!
//! Owns: a connection that several lanes share, and each lane's stream. Whichever lane finds the connection gone makes
//! it anew; the others wait for that. Never asks by HTTP/1.1 first.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{RecvStream, SendStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::exchange::{Begun, Deadline, Dialer, Exchange, Rest};
use super::failure::Failure;
use super::mix::Prepared;
use super::record::Recorder;

/// Bytes that a server may send ahead on a stream and on a connection: more than is ever on its way within a machine,
/// so that the generator is not what holds an answer up.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 26;

/// A connection.
#[derive(Debug)]
pub(super) struct Shared {
    dialer: Dialer,
    recorder: Recorder,
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Held by the lane that connects.
    connecting: Mutex<()>,
    /// Counts connections, so that a lane does not throw away one that was made after its own broke.
    made: Cell<u64>,
    /// The task that drives the connection.
    driver: RefCell<JoinSet<()>>,
    /// Cancelled when that has ended.
    gone: RefCell<CancellationToken>,
}

/// A lane's stream.
#[derive(Debug)]
pub(super) struct H2c {
    shared: Rc<Shared>,
    deadline: Deadline,
    answer: Option<RecvStream>,
    /// Kept while its body is on its way: dropping it would reset the stream.
    upload: Option<SendStream<Bytes>>,
    /// The connection that the stream is of.
    of: u64,
}

// === impl Shared ===

impl Shared {
    /// One that is not connected.
    pub(super) fn new(dialer: Dialer, recorder: Recorder) -> Rc<Self> {
        Rc::new(Self {
            dialer,
            recorder,
            sender: RefCell::default(),
            connecting: Mutex::new(()),
            made: Cell::new(0),
            driver: RefCell::default(),
            gone: RefCell::default(),
        })
    }

    fn sender(&self) -> Option<(u64, SendRequest<Bytes>)> {
        self.sender.borrow().clone().map(|sender| (self.made.get(), sender))
    }

    async fn connected(&self) -> Result<(u64, SendRequest<Bytes>), Failure> {
        if let Some(sender) = self.sender() {
            return Ok(sender);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(sender) = self.sender() {
            return Ok(sender);
        }
        let stream = self.dialer.dial().await?;
        let mut builder = Builder::new();
        builder.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(stream).await.map_err(|error| failure(&error))?;
        let mut driver = self.driver.borrow_mut();
        driver.abort_all();
        let gone = CancellationToken::new();
        self.gone.replace(gone.clone());
        driver.spawn_local(async move {
            // How it ended is told to the lanes by their streams.
            connection.await.ok();
            gone.cancel();
        });
        self.sender.replace(Some(sender.clone()));
        self.made.set(self.made.get() + 1);
        if self.made.get() > 1 {
            self.recorder.reconnected();
        }
        Ok((self.made.get(), sender))
    }

    fn broke(&self, which: u64) {
        if self.made.get() == which {
            self.sender.replace(None);
        }
    }
}

// === impl H2c ===

impl H2c {
    /// A lane on `shared`.
    pub(super) fn new(shared: &Rc<Shared>) -> Self {
        let deadline = Deadline::new(shared.dialer.timeout);
        Self { shared: Rc::clone(shared), deadline, answer: None, upload: None, of: 0 }
    }

    async fn send(&mut self, prepared: &Prepared) -> Result<Begun, Failure> {
        let (of, sender) = self.shared.connected().await?;
        self.of = of;
        self.deadline.set(self.shared.dialer.timeout);
        let mut sender = self.deadline.limit(sender.ready()).await?.map_err(|error| failure(&error))?;
        let no_body = prepared.body.is_empty();
        let (answer, mut upload) =
            sender.send_request(prepared.request.clone(), no_body).map_err(|error| failure(&error))?;
        if !no_body {
            upload.send_data(prepared.body.clone(), true).map_err(|error| failure(&error))?;
        }
        self.upload = Some(upload);
        let (head, body) = self.deadline.limit(answer).await?.map_err(|error| failure(&error))?.into_parts();
        self.answer = Some(body);
        let kind = head.headers.get(http::header::CONTENT_TYPE);
        let event_stream = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        Ok(Begun { status: head.status.as_u16(), event_stream })
    }

    async fn read(&mut self, sink: &mut impl FnMut(&[u8])) -> Result<Rest, Failure> {
        let answer = self.answer.as_mut().ok_or(Failure::Closed)?;
        match self.deadline.limit(poll_fn(|context| answer.poll_data(context))).await? {
            Some(Ok(bytes)) => {
                sink(&bytes);
                answer.flow_control().release_capacity(bytes.len()).map_err(|error| failure(&error))?;
                Ok(if answer.is_end_stream() { Rest::Nothing } else { Rest::More })
            }
            Some(Err(error)) => Err(failure(&error)),
            None => Ok(Rest::Nothing),
        }
    }

    fn end(&mut self, failure: Option<Failure>) {
        (self.answer, self.upload) = (None, None);
        // A stream that is too slow says nothing about the others.
        if failure.is_some_and(|failure| !failure.keeps_connection() && failure != Failure::Timeout) {
            self.shared.broke(self.of);
        }
    }
}

impl Exchange for H2c {
    async fn connect(&mut self) -> Result<(), Failure> {
        self.shared.connected().await.map(drop)
    }

    async fn begin(&mut self, prepared: &Prepared) -> Result<Begun, Failure> {
        let begun = self.send(prepared).await;
        if let Err(failure) = begun {
            self.end(Some(failure));
        }
        begun
    }

    async fn part(&mut self, sink: &mut impl FnMut(&[u8])) -> Result<Rest, Failure> {
        let rest = self.read(sink).await;
        if rest != Ok(Rest::More) {
            self.end(rest.err());
        }
        rest
    }

    fn no_deadline(&mut self) {
        self.deadline.clear();
    }

    async fn closed(&mut self) -> Failure {
        let gone = self.shared.gone.borrow().clone();
        gone.cancelled().await;
        Failure::Closed
    }
}

fn failure(error: &h2::Error) -> Failure {
    if error.is_reset() {
        return Failure::StreamReset;
    }
    match error.get_io() {
        Some(error) => Failure::of_stream(error),
        None if error.is_go_away() => Failure::Closed,
        None => Failure::Malformed,
    }
}
