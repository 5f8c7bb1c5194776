//! Connections and streams that are only held.
//!
//! Owns: when one counts as open. An answer that is a stream of events is open with its first event; any other is read
//! whole, and the connection is held. Never opens one anew: what was closed while it was held is a failure.

use super::clock::now_ns;
use super::exchange::{Exchange, Rest};
use super::failure::Failure;
use super::lane::check;
use super::mix::Prepared;
use super::record::{Call, Recorder};

/// What is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Held {
    /// A stream whose answer has no end yet.
    Stream,
    /// A connection between two calls.
    Connection,
}

/// Opens one and records how long that took.
pub(super) async fn open(
    exchange: &mut impl Exchange,
    prepared: &Prepared,
    recorder: &Recorder,
) -> Result<Held, Failure> {
    let due_ns = now_ns();
    let mut bytes = 0;
    let held = first_part(exchange, prepared, &mut bytes).await;
    match held {
        Ok(_) => recorder.held(Call { due_ns, end_ns: now_ns(), bytes }),
        Err(failure) => recorder.not_held(failure),
    }
    held
}

async fn first_part(
    exchange: &mut impl Exchange,
    prepared: &Prepared,
    bytes: &mut u64,
) -> Result<Held, Failure> {
    let begun = exchange.begin(prepared).await?;
    loop {
        let rest = exchange.part(&mut |part: &[u8]| *bytes += part.len() as u64).await?;
        match rest {
            Rest::Nothing if begun.event_stream => return Err(Failure::Closed),
            Rest::Nothing => return check(begun.status).map(|()| Held::Connection),
            Rest::More if begun.event_stream && *bytes > 0 => {
                return check(begun.status).map(|()| Held::Stream);
            }
            Rest::More => {}
        }
    }
}

/// Holds it until the other side closes, and records that.
pub(super) async fn hold(exchange: &mut impl Exchange, held: Held, recorder: &Recorder) {
    exchange.no_deadline();
    let failure = match held {
        Held::Connection => exchange.closed().await,
        Held::Stream => loop {
            match exchange.part(&mut |_: &[u8]| ()).await {
                Ok(Rest::More) => {}
                Ok(Rest::Nothing) => break Failure::Closed,
                Err(failure) => break failure,
            }
        },
    };
    recorder.not_held(failure);
}
