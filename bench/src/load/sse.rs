//! Streams of events, each read until it ends and then opened anew.
//!
//! Owns: what of an event is recorded. An event counts if it came in the window; its latency is the time since the
//! origin's stamp.

use fastrand::Rng;

use super::clock::now_ns;
use super::events::{Events, Order, Sequence, Stamp};
use super::exchange::{Exchange, Rest};
use super::failure::Failure;
use super::lane::{BackOff, check};
use super::mix::{Mix, Prepared};
use super::record::{Call, Recorder};

/// Reads one stream after the other, for ever.
pub(super) async fn read_streams(
    mut exchange: impl Exchange,
    mix: &Mix,
    mut random: Rng,
    recorder: &Recorder,
) {
    let mut back_off = BackOff::default();
    loop {
        let began_ns = now_ns();
        let outcome = read_stream(&mut exchange, mix.pick(&mut random), recorder).await;
        let end_ns = now_ns();
        let Err(failure) = outcome else {
            back_off.reset();
            continue;
        };
        recorder.failed(end_ns, Call { due_ns: began_ns, end_ns, bytes: 0 }, failure);
        back_off.pause().await;
    }
}

async fn read_stream(
    exchange: &mut impl Exchange,
    prepared: &Prepared,
    recorder: &Recorder,
) -> Result<(), Failure> {
    let begun = exchange.begin(prepared).await?;
    if check(begun.status).is_ok() {
        recorder.streams(|streams| streams.opened += 1);
        // A stream may be silent for as long as its origin likes.
        exchange.no_deadline();
    }
    let (mut events, mut sequence) = (Events::default(), Sequence::default());
    loop {
        let mut read = Read { recorder, sequence: &mut sequence, at_ns: None, events: 0 };
        let rest = exchange.part(&mut |part: &[u8]| read.take(&mut events, part)).await;
        match rest {
            Ok(Rest::More) => {}
            Ok(Rest::Nothing) => {
                check(begun.status)?;
                recorder.streams(|streams| streams.ended += 1);
                return Ok(());
            }
            Err(failure) => {
                recorder.streams(|streams| streams.broken += 1);
                return Err(failure);
            }
        }
    }
}

/// What came with one read.
struct Read<'a> {
    recorder: &'a Recorder,
    sequence: &'a mut Sequence,
    /// When it came.
    at_ns: Option<u64>,
    events: u64,
}

impl Read<'_> {
    fn take(&mut self, events: &mut Events, part: &[u8]) {
        let at_ns = *self.at_ns.get_or_insert_with(now_ns);
        let mut bytes = part.len() as u64;
        events.take(part, |stamp| {
            self.event(at_ns, stamp, bytes);
            bytes = 0;
        });
    }

    fn event(&mut self, at_ns: u64, stamp: Option<Stamp>, bytes: u64) {
        // The sequence is followed during the warm-up too.
        let order = stamp.map(|stamp| self.sequence.take(stamp.seq));
        self.events += 1;
        if !self.recorder.window().holds(at_ns) {
            return;
        }
        let due_ns = stamp.map_or(at_ns, |stamp| stamp.sent_ns);
        let coalesced = self.events > 1;
        self.recorder.streams(|streams| {
            streams.coalesced += u64::from(coalesced);
            match order {
                None => streams.unstamped += 1,
                Some(Order::Next) => {}
                Some(Order::Gap(missing)) => streams.gaps += missing,
                Some(Order::Duplicate) => streams.duplicates += 1,
            }
        });
        self.recorder.event(Call { due_ns, end_ns: at_ns, bytes }, stamp.is_some());
    }
}
