//! What a front does to a call, judged from when things were sent and when they arrived.
//!
//! Pure: the clock of the sender and that of the receiver are never compared, only what passed on each. A front that
//! delays everything equally is no matter; one that holds back what came early is.

use std::fmt;
use std::time::Duration;

/// An event may be this much later than the quickest one without being called held back, or two intervals where that is
/// more: a slow network, a busy machine.
const JITTER: Duration = Duration::from_millis(400);

/// Timeouts that fronts have by default, in seconds: Envoy's route, some load balancers, HAProxy, nginx and Traefik.
const KNOWN_CUTS: [u64; 4] = [15, 30, 50, 60];

/// A cut this near to a known timeout is that timeout.
const NEAR: Duration = Duration::from_millis(1500);

const MIB: u64 = 1024 * 1024;

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// When the gateway sent it, on its clock.
    pub(crate) sent: Duration,
    /// When it arrived, since the call began.
    pub(crate) arrived: Duration,
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With the event that is the last one.
    Whole,
    /// Before it.
    Cut,
}

/// A stream as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What arrived.
    pub(crate) events: Vec<Event>,
    /// How it ended.
    pub(crate) end: End,
    /// When, since the call began.
    pub(crate) ended: Duration,
}

/// How an upload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    /// The gateway counted all of it.
    Passed,
    /// Refused for its size, or broken off.
    Refused,
}

/// What is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// Event streams alone.
    Events,
    /// Other streams alone, of lines of JSON; the gateway asks nobody to pass these on.
    Lines,
    /// Whatever is streamed.
    Both,
}

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// A pause between bytes.
    Silence,
    /// The whole call, however busy.
    Total,
}

/// What a front does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What is sent arrives as it is sent.
    Streaming,
    /// Parts of an answer are held back, the longest for so long.
    Buffered { held: Duration, what: Held },
    /// A call ends after so long.
    Cut { after: Duration, limit: Limit },
    /// Calls end early, but not twice after the same time: who ends them goes away, and has no limit.
    Unsteady { first: Duration, second: Duration },
    /// A call ended after so long, and when it was looked at again none did.
    EndedOnce { after: Duration },
    /// A call may be so long, as far as was looked.
    NotCut { looked: Duration },
    /// A body of more than so many bytes is refused.
    BodyLimit { bytes: u64 },
    /// A body may be so large, as far as was looked.
    BodyPasses { bytes: u64 },
    /// The call does not reach a gateway.
    NotRouted { why: String },
    /// The gateways do not answer probes.
    ProbeDisabled,
    /// The gateways answer, but not to probes: too many at a time, or an older version.
    ProbeUnavailable { why: String },
}

// === impl Verdict ===

impl Verdict {
    /// A sentence for a person.
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Streaming => {
                "streams of events (SSE) and of JSON lines (NDJSON) arrive as they are sent".to_owned()
            }
            Self::Buffered { held, what } => format!(
                "{} held back, for up to {:.1} s: an agent's answer is seen late or only when it is whole",
                match what {
                    Held::Events => "event streams (SSE) are, other streams are not",
                    Held::Lines => "streams of JSON lines (NDJSON) are, event streams (SSE) are not",
                    Held::Both => "all streams, of events (SSE) and of JSON lines (NDJSON), are",
                },
                held.as_secs_f64()
            ),
            Self::Cut { after, limit: Limit::Silence } => format!(
                "a call is cut after {} s without a byte; an agent that thinks longer is never heard",
                seconds(*after)
            ),
            Self::Cut { after, limit: Limit::Total } => {
                format!("a call is cut after {} s, also while it is busy", seconds(*after))
            }
            Self::Unsteady { first, second } => format!(
                "calls end early, once after {:.1} s and once after {:.1} s, which is no limit on them: a gateway, or what \
                 is in front, goes away under them",
                first.as_secs_f64(),
                second.as_secs_f64()
            ),
            Self::EndedOnce { after } => format!(
                "a call ended after {:.1} s, and at a second look none did: a gateway went away under it, or one of \
                 several fronts cuts, which a look at another time tells",
                after.as_secs_f64()
            ),
            Self::NotCut { looked } => format!("{} s of silence are not cut", looked.as_secs()),
            Self::BodyLimit { bytes } => format!("a request of more than {} is refused", size(*bytes)),
            Self::BodyPasses { bytes } => format!("a request of {} passes", size(*bytes)),
            Self::NotRouted { why } | Self::ProbeUnavailable { why } => why.clone(),
            Self::ProbeDisabled => {
                "the gateways do not answer probes (--probe false), so nothing can be said of the way to them"
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Verdict {
    /// Its name: `Streaming`, `CutAt60s`, `BodyLimit1MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Streaming => f.write_str("Streaming"),
            Self::Buffered { .. } => f.write_str("Buffered"),
            Self::Cut { after, .. } => match known_cut(*after) {
                Some(seconds) => write!(f, "CutAt{seconds}s"),
                None => write!(f, "CutAfter{}s", seconds(*after)),
            },
            Self::Unsteady { .. } => f.write_str("Unsteady"),
            Self::EndedOnce { .. } => f.write_str("EndedOnce"),
            Self::NotCut { .. } => f.write_str("NotCut"),
            Self::BodyLimit { bytes } => write!(f, "BodyLimit{}", size(*bytes).replace(' ', "")),
            Self::BodyPasses { .. } => f.write_str("BodyPasses"),
            Self::NotRouted { .. } => f.write_str("NotRouted"),
            Self::ProbeDisabled => f.write_str("ProbeDisabled"),
            Self::ProbeUnavailable { .. } => f.write_str("ProbeUnavailable"),
        }
    }
}

/// Whether what was sent once each `interval` arrived so, in both formats: a stream of events and one of lines.
///
/// They differ where a front heeds `X-Accel-Buffering: no`, which the gateway puts on events alone.
pub(crate) fn pace(events: &Seen, lines: &Seen, interval: Duration) -> Verdict {
    let (held_events, held_lines) = (held_back(events, interval), held_back(lines, interval));
    match (held_events, held_lines) {
        (Some(events), Some(lines)) => Verdict::Buffered { held: events.max(lines), what: Held::Both },
        (Some(held), None) => Verdict::Buffered { held, what: Held::Events },
        (None, Some(held)) => Verdict::Buffered { held, what: Held::Lines },
        (None, None) => [events, lines]
            .into_iter()
            .find(|seen| seen.end == End::Cut)
            .map_or(Verdict::Streaming, |cut| Verdict::Cut { after: cut.ended, limit: Limit::Total }),
    }
}

/// For how long the part that waited longest was held back; `None` where none was.
fn held_back(seen: &Seen, interval: Duration) -> Option<Duration> {
    // How long each was under way, but for what is the same for all: the difference of the clocks.
    let under_way = |event: &Event| signed_millis(event.arrived) - signed_millis(event.sent);
    let quickest = seen.events.iter().map(under_way).min();
    let slowest = seen.events.iter().map(under_way).max();
    let Some((quickest, slowest)) = quickest.zip(slowest) else {
        // Not one before the end: whoever cut it had held all of them.
        return Some(seen.ended);
    };
    let held = Duration::from_millis((slowest - quickest).unsigned_abs());
    (held > JITTER.max(2 * interval)).then_some(held)
}

/// Whether a call is cut, from a stream that was silent for `looked` and, where there was one, a busy one of the same
/// length.
pub(crate) fn cut(silent: &Seen, busy: Option<&Seen>, looked: Duration) -> Verdict {
    let busy_cut = busy.filter(|seen| seen.end == End::Cut);
    match (silent.end, busy_cut) {
        // A limit on the whole call begins with the call, one on silence with the last byte.
        (_, Some(busy)) => Verdict::Cut { after: busy.ended, limit: Limit::Total },
        (End::Cut, None) => {
            let last_byte = silent.events.last().map_or(Duration::ZERO, |event| event.arrived);
            let after = silent.ended.saturating_sub(last_byte);
            // What comes with the cut was held back until then: it had been sent when the call began.
            let after = if after <= JITTER { silent.ended } else { after };
            Verdict::Cut { after, limit: Limit::Silence }
        }
        (End::Whole, None) => Verdict::NotCut { looked },
    }
}

/// What a second look makes of a first one in which a call ended early; `cut_again`: one did in the second, too. A limit
/// ends calls after the same time; a gateway that goes away, or a front that is told anew, ends them whenever it does.
pub(crate) fn settled(first: &Verdict, second: Verdict, cut_again: bool) -> Vec<Verdict> {
    let verdict = match (first, &second) {
        (Verdict::Cut { after, limit }, Verdict::Cut { after: again, limit: other })
            if is_one_time(*after, *again) =>
        {
            // Silence was cut both times; that a busy call was, only once.
            Verdict::Cut { after: *after, limit: if limit == other { *limit } else { Limit::Silence } }
        }
        // A stream that ended before its first event seems to be held back.
        (
            Verdict::Cut { after: first, .. } | Verdict::Buffered { held: first, .. },
            Verdict::Cut { after: second, .. },
        ) => Verdict::Unsteady { first: *first, second: *second },
        (Verdict::Cut { after: first, .. }, Verdict::Buffered { held: second, .. }) if cut_again => {
            Verdict::Unsteady { first: *first, second: *second }
        }
        (Verdict::Cut { after, .. }, Verdict::Streaming | Verdict::NotCut { .. }) => {
            return vec![Verdict::EndedOnce { after: *after }, second];
        }
        _ => second,
    };
    vec![verdict]
}

/// Within a tenth of the longer, or a second.
fn is_one_time(one: Duration, other: Duration) -> bool {
    one.abs_diff(other) <= (one.max(other) / 10).max(Duration::from_secs(1))
}

/// How large a body may be, from uploads of so many bytes each.
pub(crate) fn body(uploads: &[(u64, Upload)]) -> Verdict {
    let sizes = |wanted| uploads.iter().filter(move |(_, upload)| *upload == wanted).map(|(bytes, _)| *bytes);
    match sizes(Upload::Refused).min() {
        None => Verdict::BodyPasses { bytes: sizes(Upload::Passed).max().unwrap_or(0) },
        Some(refused) => {
            let below = sizes(Upload::Passed).filter(|bytes| *bytes < refused).max();
            Verdict::BodyLimit { bytes: below.unwrap_or(0) }
        }
    }
}

fn known_cut(after: Duration) -> Option<u64> {
    KNOWN_CUTS.into_iter().find(|known| after.abs_diff(Duration::from_secs(*known)) <= NEAR)
}

/// Rounded; that of a known timeout where it is one.
fn seconds(after: Duration) -> u64 {
    known_cut(after).unwrap_or((after + Duration::from_millis(500)).as_secs())
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "0 bytes".to_owned(),
        _ if bytes.is_multiple_of(MIB) => format!("{} MiB", bytes / MIB),
        _ => format!("{} KiB", bytes / 1024),
    }
}

fn signed_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
