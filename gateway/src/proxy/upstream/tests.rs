//! What may be sent a second time. The conditions can hardly be brought about over a socket: Pingora looks at a
//! pooled connection just before it is used.

use pingora::ErrorType::{ConnectionClosed, InvalidHTTPHeader, ReadError, ReadTimedout, WriteError};
use pingora::{ErrorSource, ErrorType};
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::metrics::Metrics;
use crate::proxy::account::Account;
use crate::route_table::RouteTableWriter;
use krypton_discovery::EndpointPolicy;

/// An attempt that failed.
struct Attempt {
    method: Method,
    fault: (ErrorType, ErrorSource),
    reused: bool,
    head_sent: bool,
    answered: bool,
    attempts: u8,
}

/// A GET whose pooled connection was closed by the agent: the ordinary reason to try again.
fn stale() -> Attempt {
    Attempt {
        method: Method::GET,
        fault: (ConnectionClosed, ErrorSource::Upstream),
        reused: true,
        head_sent: true,
        answered: false,
        attempts: 1,
    }
}

async fn is_repeated(attempt: Attempt) -> bool {
    let (mut client, server) = tokio::io::duplex(1024);
    client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
    let mut session = Session::new_h1(Box::new(server));
    session.read_request().await.unwrap();
    let table = RouteTableWriter::new(EndpointPolicy { allow_loopback: true, deny: vec![] }).handle();
    let account = Account::new(Arc::new(Metrics::new(table)), None);
    let mut ctx = CallCtx::new(Arc::new(account));
    ctx.method = attempt.method;
    ctx.upstream.stage = if attempt.head_sent { Stage::HeadSent } else { Stage::Connected };
    ctx.upstream.answered = attempt.answered;
    ctx.upstream.attempts = attempt.attempts;
    let mut fault = pingora::Error::new(attempt.fault.0);
    fault.esource = attempt.fault.1;
    attempt_failed(&session, &mut ctx, &mut fault, attempt.reused);
    fault.retry()
}

#[tokio::test]
async fn what_is_idempotent_and_unanswered_on_a_stale_connection_is_repeated() {
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE] {
        assert!(is_repeated(Attempt { method, ..stale() }).await);
    }
    for etype in [ConnectionClosed, ReadError, WriteError] {
        assert!(is_repeated(Attempt { fault: (etype, ErrorSource::Upstream), ..stale() }).await);
    }
}

#[tokio::test]
async fn a_head_that_could_not_be_written_is_repeated_whatever_the_method() {
    let unwritten = || Attempt { fault: (WriteError, ErrorSource::Upstream), head_sent: false, ..stale() };
    for method in [Method::GET, Method::POST, Method::PATCH] {
        assert!(is_repeated(Attempt { method, ..unwritten() }).await);
    }
    assert!(!is_repeated(Attempt { method: Method::POST, head_sent: true, ..unwritten() }).await);
}

#[tokio::test]
async fn nothing_else_is_repeated() {
    for (what, attempt) in [
        ("may have been seen", Attempt { method: Method::POST, ..stale() }),
        ("was answered", Attempt { answered: true, ..stale() }),
        ("was fresh", Attempt { reused: false, ..stale() }),
        ("was the last", Attempt { attempts: 3, ..stale() }),
        ("was silent", Attempt { fault: (ReadTimedout, ErrorSource::Upstream), ..stale() }),
        ("is not HTTP", Attempt { fault: (InvalidHTTPHeader, ErrorSource::Upstream), ..stale() }),
        ("is the client's", Attempt { fault: (ConnectionClosed, ErrorSource::Downstream), ..stale() }),
    ] {
        assert!(!is_repeated(attempt).await, "{what}");
    }
}
