//! One line of JSON for each call.
//!
//! Owns: the form of a line, and the thread that writes lines. Never waits in a call, never holds credentials,
//! session ids or the query of a path.
//!
//! 1. A call that has ended hands its [`AccessLine`] to its [`AccessLogSender`], which writes it into one buffer.
//! 2. The buffer goes into a bounded queue. A full queue, that is a reader of the log that is too slow, drops the
//!    line and counts it.
//! 3. A thread of its own takes what is there, writes it at once and flushes. Then it lets some milliseconds go by:
//!    to wake a thread for each line costs a call more than to make the line. [`AccessLog::close`] lets it finish.

mod line;

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, oneshot};

pub use line::AccessLine;

/// Lines that wait for the writer: about a second of a busy gateway, 4 MB at most of lines of usual length.
const QUEUE_LINES: usize = 8_192;

/// Lines that are taken out of the queue at once.
const BATCH_LINES: usize = 256;

/// How long lines gather after a write. Too short for a person to notice, and far too short for the queue to fill.
const GATHERING: Duration = Duration::from_millis(20);

/// Bytes that go into one write.
const WRITE_BYTES: usize = 64 * 1024;

/// The writer of the log.
#[derive(Debug)]
pub struct AccessLog {
    sender: AccessLogSender,
    /// Answered when the writer has ended.
    ended: oneshot::Receiver<()>,
}

/// Where calls hand in their lines. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AccessLogSender {
    queue: mpsc::Sender<Message>,
    dropped: Counter,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    Close,
}

// === impl AccessLog ===

impl AccessLog {
    /// Writes to standard output and counts lines that could not be written in `dropped`.
    pub fn stdout(dropped: Counter) -> Self {
        Self::to(io::stdout(), dropped)
    }

    /// Writes to `out`.
    fn to(out: impl Write + Send + 'static, dropped: Counter) -> Self {
        let (queue, lines) = mpsc::channel(QUEUE_LINES);
        let (end, ended) = oneshot::channel();
        let failed = dropped.clone();
        let writer = move || {
            write_lines(lines, out, &failed, GATHERING);
            end.send(()).ok();
        };
        let started = std::thread::Builder::new().name("access-log".to_owned()).spawn(writer);
        if let Err(error) = started {
            // The queue is closed then, and every line is counted as dropped.
            log::error!(error:%; "Cannot start the writer of the access log");
        }
        Self { sender: AccessLogSender { queue, dropped }, ended }
    }

    /// Where to hand lines in.
    pub fn sender(&self) -> AccessLogSender {
        self.sender.clone()
    }

    /// Writes what is in the queue and ends. Lines that are handed in later are dropped. Returns whether all was
    /// written within `deadline`; the reader of the log may have stopped reading.
    pub async fn close(self, deadline: Duration) -> bool {
        let closed = async {
            // Fails where the writer has ended already.
            self.sender.queue.send(Message::Close).await.ok();
            self.ended.await.is_ok()
        };
        tokio::time::timeout(deadline, closed).await.unwrap_or(false)
    }
}

// === impl AccessLogSender ===

impl AccessLogSender {
    /// Writes the line, later and elsewhere.
    pub fn log(&self, line: &AccessLine<'_>) {
        // Without a place in the queue the line is not even made.
        match self.queue.try_reserve() {
            Ok(place) => place.send(Message::Line(line.encode())),
            Err(_) => drop(self.dropped.inc()),
        }
    }
}

fn write_lines(mut lines: mpsc::Receiver<Message>, out: impl Write, failed: &Counter, gathering: Duration) {
    let mut out = BufWriter::with_capacity(WRITE_BYTES, out);
    let mut batch = Vec::with_capacity(BATCH_LINES);
    let mut told = false;
    let mut open = true;
    while open && lines.blocking_recv_many(&mut batch, BATCH_LINES) > 0 {
        let written = batch.iter().try_for_each(|message| match message {
            Message::Line(line) => out.write_all(line),
            Message::Close => Ok(()),
        });
        open = !batch.iter().any(|message| matches!(message, Message::Close));
        if let Err(error) = written.and_then(|()| out.flush()) {
            // Which of them were lost cannot be known.
            failed.inc_by(batch.len() as u64);
            if !std::mem::replace(&mut told, true) {
                log::error!(error:%; "Cannot write the access log");
            }
        }
        let has_more = batch.len() == BATCH_LINES;
        batch.clear();
        if open && !has_more {
            #[expect(clippy::disallowed_methods, reason = "a thread of its own, with nothing else to do")]
            std::thread::sleep(gathering);
        }
    }
}

#[cfg(test)]
mod tests;
