//! The connection of a call that asks for a tunnel (WebSocket): dialled here, never out of the pool.
//!
//! Pingora 0.9.1 waits for the agent's answer and for the end of the request's empty body at once, in no order. When
//! the 101 is there first, as on a busy machine, it takes that end for the tunnel's and closes. So the first read
//! of such a connection waits for one turn, in which the end of the body goes first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::ErrorType::{ConnectError, ConnectRefused, ConnectTimedout};
use pingora::connectors::l4::Connect;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Dials for a tunnel.
#[derive(Debug)]
pub(super) struct Dialler {
    /// How long it may take.
    pub(super) timeout: Duration,
}

/// A connection whose first read waits for one turn.
#[derive(Debug)]
struct Socket {
    tcp: TcpStream,
    has_waited: bool,
}

// === impl Dialler ===

#[async_trait]
impl Connect for Dialler {
    async fn connect(&self, address: &SocketAddr) -> pingora::Result<Stream> {
        let Some(address) = address.as_inet() else { return pingora::Error::err(ConnectError) };
        let dialled = tokio::time::timeout(self.timeout, TcpStream::connect(address)).await;
        let tcp = match dialled {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(pingora::Error::because(ConnectRefused, "dialling for a tunnel", error));
            }
            Ok(Err(error)) => {
                return Err(pingora::Error::because(ConnectError, "dialling for a tunnel", error));
            }
            Err(_) => return pingora::Error::err(ConnectTimedout),
        };
        Ok(VirtualSocketStream::new(Box::new(Socket { tcp, has_waited: false })).into())
    }
}

// === impl Socket ===

impl VirtualSocket for Socket {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        let socket = socket2::SockRef::from(&self.tcp);
        match option {
            VirtualSockOpt::NoDelay => socket.set_tcp_nodelay(true),
            VirtualSockOpt::KeepAlive(settings) => {
                let keepalive = socket2::TcpKeepalive::new()
                    .with_time(settings.idle)
                    .with_interval(settings.interval)
                    .with_retries(u32::try_from(settings.count).unwrap_or(u32::MAX));
                socket.set_tcp_keepalive(&keepalive)?;
                socket.set_tcp_user_timeout(Some(settings.user_timeout))
            }
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.has_waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn the_first_read_lets_others_go_first() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = SocketAddr::Inet(listener.local_addr().unwrap());
        let mut stream = Dialler { timeout: Duration::from_secs(5) }.connect(&address).await.unwrap();
        let (mut agent, _) = listener.accept().await.unwrap();
        agent.write_all(b"101").await.unwrap();
        let mut byte = [0; 1];
        // Whatever is there already: Pingora's other side has its turn.
        assert!(futures::FutureExt::now_or_never(stream.read(&mut byte)).is_none());
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_refused_dial_is_told_as_one() {
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dialled = Dialler { timeout: Duration::from_secs(5) }.connect(&SocketAddr::Inet(address)).await;
        assert_eq!(dialled.unwrap_err().etype(), &ConnectRefused);
    }
}
