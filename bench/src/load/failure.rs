//! How a call can fail.

use std::fmt::{self, Display, Formatter};
use std::io;

/// The cause that a failed call is counted under.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Failure {
    /// No connection could be made.
    Connect,
    /// No free address and port to connect from.
    NoPort,
    /// No file descriptor was left.
    NoDescriptor,
    /// The answer was not there in time.
    Timeout,
    /// The connection was reset, or broke while being written to.
    Reset,
    /// The connection was closed before the first byte of an answer.
    Closed,
    /// The connection was closed within an answer.
    ShortBody,
    /// What came is not the protocol.
    Malformed,
    /// The other side reset the HTTP/2 stream.
    StreamReset,
    /// An answer, but not one of 2xx or 3xx.
    Status(u16),
    /// What came back is not what was sent.
    WrongEcho,
    /// It was due, but had no end when the run had: the server was too slow, or never free.
    Unfinished,
}

// === impl Failure ===

impl Failure {
    /// What a failed read or write means.
    #[must_use]
    pub(super) fn of_stream(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::UnexpectedEof => Self::ShortBody,
            _ => Self::Reset,
        }
    }

    /// What a failed connect means.
    #[must_use]
    pub(super) fn of_connect(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Self::NoPort,
            io::ErrorKind::TimedOut => Self::Timeout,
            _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => Self::NoDescriptor,
            _ => Self::Connect,
        }
    }

    /// Whether the connection can go on being used.
    #[must_use]
    pub(super) fn keeps_connection(self) -> bool {
        matches!(self, Self::Status(_) | Self::StreamReset)
    }

    /// Whether the call has waited in vain: it is counted in the latencies with the time that it waited, since leaving
    /// it out would flatter the server.
    #[must_use]
    pub(super) fn is_a_wait(self) -> bool {
        matches!(self, Self::Timeout | Self::Unfinished)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::NoPort => "no_port",
            Self::NoDescriptor => "no_descriptor",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::ShortBody => "short_body",
            Self::Malformed => "malformed",
            Self::StreamReset => "stream_reset",
            Self::Status(status) => return write!(f, "status_{status}"),
            Self::WrongEcho => "wrong_echo",
            Self::Unfinished => "unfinished",
        })
    }
}
