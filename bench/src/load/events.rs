//! Streams of events as bytes.
//!
//! Owns: finding events in parts of a stream, their stamps, and what is wrong with a sequence. Never reads a socket.

use serde::Deserialize;

/// The longest event that is read for its stamp; what is longer is an event without one.
const MAX_EVENT: usize = 64 * 1024;

/// What the origin writes into each event.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub(super) struct Stamp {
    /// Counts up by one.
    pub(super) seq: u64,
    /// CLOCK_MONOTONIC when it was sent.
    pub(super) sent_ns: u64,
}

/// Finds events in a stream (HTML, "Server-sent events": an event ends with an empty line).
#[derive(Debug, Default)]
pub(super) struct Events {
    /// An event that has begun and not ended.
    begun: Vec<u8>,
    /// It is too long to be kept.
    overlong: bool,
}

/// What is expected of the next event.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Sequence {
    next: Option<u64>,
}

/// What the number of an event says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// It is the next one.
    Next,
    /// So many before it did not come.
    Gap(u64),
    /// It has come before, or a later one has.
    Duplicate,
}

// === impl Events ===

impl Events {
    /// Gives each event that ends in `part` to `sink`: its stamp, or `None` where it has none. A comment is no event.
    pub(super) fn take(&mut self, mut part: &[u8], mut sink: impl FnMut(Option<Stamp>)) {
        while !part.is_empty() {
            let (event, rest) = self.cut(part);
            part = rest;
            let Some(whole) = event else { return };
            let overlong = std::mem::take(&mut self.overlong);
            let begun = std::mem::take(&mut self.begun);
            let joined: &[u8] = if begun.is_empty() { whole } else { &begun };
            match data(joined) {
                Some(data) if !overlong => sink(serde_json::from_slice(data).ok()),
                None if !overlong => {}
                _ => sink(None),
            }
            // Its memory is used again.
            self.begun = begun;
            self.begun.clear();
        }
    }

    /// The rest of an event that ends in `part`, and what follows it. `begun` holds the event if it began earlier.
    fn cut<'a>(&mut self, part: &'a [u8]) -> (Option<&'a [u8]>, &'a [u8]) {
        if self.begun.is_empty() && !self.overlong {
            if let Some(end) = end_of_event(part) {
                let (event, rest) = part.split_at(end);
                return (Some(event), rest);
            }
            self.keep(part);
            return (None, &[]);
        }
        // The empty line may have begun in an earlier part.
        for (at, byte) in part.iter().enumerate() {
            if *byte == b'\n' {
                let ends = if at == 0 {
                    self.ends_line()
                } else {
                    ends_line(&part[..at]) || (at == 1 && part[0] == b'\r' && self.ends_line())
                };
                if ends {
                    let (event, rest) = part.split_at(at + 1);
                    self.keep(event);
                    return (Some(event), rest);
                }
            }
        }
        self.keep(part);
        (None, &[])
    }

    fn keep(&mut self, part: &[u8]) {
        if self.begun.len() + part.len() > MAX_EVENT {
            self.overlong = true;
            // The last bytes are enough to see the empty line.
            self.begun.clear();
            self.begun.extend_from_slice(&part[part.len().saturating_sub(2)..]);
        } else {
            self.begun.extend_from_slice(part);
        }
    }

    fn ends_line(&self) -> bool {
        ends_line(&self.begun)
    }
}

/// Whether a line has ended before a `\n` that follows `bytes`.
fn ends_line(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\n") || bytes.ends_with(b"\n\r")
}

/// The index after the first empty line.
fn end_of_event(part: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = part[from..].iter().position(|byte| *byte == b'\n') {
        let at = from + at;
        if at > 0 && ends_line(&part[..at]) {
            return Some(at + 1);
        }
        from = at + 1;
    }
    None
}

/// The first line of data of an event.
fn data(event: &[u8]) -> Option<&[u8]> {
    event.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data:"))
}

// === impl Sequence ===

impl Sequence {
    /// What the number of the event that came says. The first one is in order, whatever it is.
    pub(super) fn take(&mut self, seq: u64) -> Order {
        let Some(next) = self.next else {
            self.next = Some(seq + 1);
            return Order::Next;
        };
        if seq < next {
            return Order::Duplicate;
        }
        self.next = Some(seq + 1);
        if seq == next { Order::Next } else { Order::Gap(seq - next) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b": hello\n\nid: 1\ndata: {\"seq\":1,\"sent_ns\":10,\"pad\":\"x\"}\n\ndata: {\"seq\":2,\"sent_ns\":20}\r\n\r\ndata: none\n\nevent: x\ndata:{\"seq\":4,\"sent_ns\":40}\n\n";

    fn events(step: usize) -> Vec<Option<(u64, u64)>> {
        let (mut events, mut found) = (Events::default(), Vec::new());
        for part in STREAM.chunks(step) {
            events.take(part, |stamp| found.push(stamp.map(|stamp| (stamp.seq, stamp.sent_ns))));
        }
        found
    }

    #[test]
    fn events_are_found_however_they_are_cut() {
        for step in 1..=STREAM.len() {
            assert_eq!(events(step), [Some((1, 10)), Some((2, 20)), None, Some((4, 40))], "{step}");
        }
    }

    #[test]
    fn an_event_that_is_too_long_is_one_without_a_stamp() {
        let (mut events, mut found) = (Events::default(), Vec::new());
        let long = format!("data: {}\n\ndata: {{\"seq\":1,\"sent_ns\":1}}\n\n", "x".repeat(2 * MAX_EVENT));
        for part in long.as_bytes().chunks(1000) {
            events.take(part, |stamp| found.push(stamp.is_some()));
        }
        assert_eq!(found, [false, true]);
    }

    #[test]
    fn gaps_and_duplicates_are_seen() {
        let mut sequence = Sequence::default();
        let orders = [7, 8, 11, 8, 12].map(|seq| sequence.take(seq));
        assert_eq!(orders, [Order::Next, Order::Next, Order::Gap(2), Order::Duplicate, Order::Next]);
    }
}
