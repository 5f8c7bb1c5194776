//! Asks the gateway's synthetic probe through the public URL, and writes down what arrived when.
//!
//! Never judges: that is [`super::verdict`]'s. Calls no agent.
//!
//! 1. A stream of events and, beside it, one of JSON lines: do the calls reach a gateway, and does what is sent arrive
//!    as it is sent?
//! 2. A silent call and, beside it, a busy one of the same length: is one of them cut?
//!
//! Where a call of 1 or 2 ended early, both are made once more after a pause: only what happens twice is a cut.
//!
//! 3. An upload and, if it is refused, smaller ones: how large may it be?

mod format;

use std::collections::BTreeSet;
use std::time::Duration;

use http::{Method, Request, StatusCode, header};
use tokio::time::{Instant, sleep, timeout_at};

use super::class;
use super::refusal;
use super::verdict::{self, End, Event, Seen, Upload, Verdict};
use crate::args::{Class, DoctorArgs};
use crate::http::{Answer, HttpError, Way, empty, zeros};
use crate::progress;
use format::Format;

/// The first stream: long enough that a buffer shows, short enough to wait for.
const EVENTS: u32 = 10;
const INTERVAL: Duration = Duration::from_millis(300);

/// Between two events of the busy call, unless it would have more than the gateway sends ([`MOST_EVENTS`]).
const BUSY_INTERVAL: Duration = Duration::from_secs(1);
const MOST_EVENTS: u32 = 600;

/// Between a look in which a call ended early and the second one: longer than a gateway that goes away still takes calls
/// (its `--drain-delay`, by default).
const PAUSE: Duration = Duration::from_secs(6);

/// How much longer than its length an answer is waited for: a front may hold all of it.
const LATE: Duration = Duration::from_secs(15);

/// How long an upload may take.
const UPLOAD: Duration = Duration::from_mins(2);

const MIB: u64 = 1024 * 1024;

/// The first upload, and the smaller ones that narrow a limit down.
const LARGE: u64 = 8 * MIB;
const LARGE_IF_QUICK: u64 = 2 * MIB;
const SMALLER: [u64; 4] = [64 * 1024, MIB, 2 * MIB, 4 * MIB];

/// What came of it.
pub(crate) struct Looked {
    pub(crate) verdicts: Vec<Verdict>,
    /// What the answers say of who sent them.
    pub(crate) classes: BTreeSet<Class>,
}

/// Looks at the way to the gateways.
pub(crate) async fn look(way: &Way, args: &DoctorArgs) -> Looked {
    let mut looked = Looked { verdicts: Vec::new(), classes: BTreeSet::new() };
    let length = INTERVAL * (EVENTS - 1);
    match twice_if_cut("watching two streams", length, || paces(way, length)).await {
        Ok(look) => {
            looked.classes = look.classes;
            looked.verdicts.extend(look.verdicts);
        }
        Err(refused) => {
            looked.verdicts.push(refused);
            return looked;
        }
    }
    if !args.quick {
        let look =
            twice_if_cut("waiting for a silent answer", args.silence, || cuts(way, args.silence)).await;
        looked.verdicts.extend(look.map_or_else(|refused| vec![refused], |look| look.verdicts));
    }
    let large = if args.quick { LARGE_IF_QUICK } else { LARGE };
    let uploads = progress::during("uploading", None, uploads(way, large)).await;
    looked.verdicts.push(match uploads {
        Ok(uploads) => verdict::body(&uploads),
        Err(refused) => refused,
    });
    looked
}

/// What is told of one look, or of two.
struct Settled {
    verdicts: Vec<Verdict>,
    classes: BTreeSet<Class>,
}

/// What one look saw.
struct Look {
    verdict: Verdict,
    classes: BTreeSet<Class>,
    /// Whether a call ended before its end.
    was_cut: bool,
}

/// Looks, which takes `length`, and where a call ended early once more.
async fn twice_if_cut<L>(doing: &str, length: Duration, look: impl Fn() -> L) -> Result<Settled, Verdict>
where
    L: Future<Output = Result<Look, Verdict>>,
{
    let first = progress::during(doing, Some(length), look()).await?;
    if !first.was_cut {
        return Ok(Settled { verdicts: vec![first.verdict], classes: first.classes });
    }
    progress::during("a call ended early; looking again soon", Some(PAUSE), sleep(PAUSE)).await;
    let second = progress::during(&format!("{doing} once more"), Some(length), look()).await?;
    let classes = &first.classes | &second.classes;
    Ok(Settled { verdicts: verdict::settled(&first.verdict, second.verdict, second.was_cut), classes })
}

/// A stream of events and one of lines.
async fn paces(way: &Way, length: Duration) -> Result<Look, Verdict> {
    let target = format!("stream?events={EVENTS}&interval={}", INTERVAL.as_millis());
    let limit = (length + LATE, Early::Refused);
    let (events, lines) = tokio::join!(
        watch(way, Format::Sse, &target, EVENTS, limit),
        watch(way, Format::Ndjson, &target, EVENTS, limit),
    );
    let ((events, classes), (lines, more)) = (events?, lines?);
    Ok(Look {
        verdict: verdict::pace(&events, &lines, INTERVAL),
        classes: &classes | &more,
        was_cut: [events.end, lines.end].contains(&End::Cut),
    })
}

/// A silent call and a busy one.
async fn cuts(way: &Way, silence: Duration) -> Result<Look, Verdict> {
    let interval = BUSY_INTERVAL.max(silence / MOST_EVENTS);
    let events = 1 + u32::try_from(silence.as_millis() / interval.as_millis()).unwrap_or(MOST_EVENTS - 1);
    let events = events.min(MOST_EVENTS);
    let (silent_target, busy_target) = (
        format!("stream?silence={}", silence.as_millis()),
        format!("stream?events={events}&interval={}", interval.as_millis()),
    );
    let limit = (silence + LATE, Early::Cut);
    // Of these, events: they are what the fewest hold back.
    let silent = watch(way, Format::Sse, &silent_target, u32::MAX, limit);
    let busy = watch(way, Format::Sse, &busy_target, events, limit);
    let (silent, busy) = tokio::join!(silent, busy);
    let (silent, classes) = silent?;
    let verdict = verdict::cut(&silent, busy.ok().map(|(seen, _)| seen).as_ref(), silence);
    let was_cut = matches!(verdict, Verdict::Cut { .. });
    Ok(Look { verdict, classes, was_cut })
}

/// What it means when whoever is in front gives up before an answer begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Early {
    /// No limit on silence is as short as the first look: it does not reach a gateway.
    Refused,
    /// It may be what is looked for.
    Cut,
}

/// Reads a stream to its end, at most for a limit. Whole it is with `expected` events, or with the one that follows
/// silence.
async fn watch(
    way: &Way,
    format: Format,
    target: &str,
    expected: u32,
    (limit, early): (Duration, Early),
) -> Result<(Seen, BTreeSet<Class>), Verdict> {
    let begin = Instant::now();
    let deadline = begin + limit;
    let request = Request::get(format!("/v1/agents/_probe/{target}&format={}", format.name()))
        .header(header::ACCEPT, format.content_type())
        .body(empty())
        .expect("numbers in a path make a path");
    let mut seen = Seen { events: Vec::new(), end: End::Cut, ended: Duration::ZERO };
    let answer = timeout_at(deadline, way.send(request)).await;
    seen.ended = begin.elapsed();
    let mut answer = match answer {
        Ok(Ok(answer)) => answer,
        // A connection that is ended without a word, after a while: cut, and never unreachable.
        Ok(Err(HttpError::Exchange(_))) if early == Early::Cut && seen.ended > Duration::from_secs(1) => {
            return Ok((seen, BTreeSet::new()));
        }
        Ok(Err(error)) => return Err(refusal::of_error(&error, way.url())),
        Err(_) => return Ok((seen, BTreeSet::new())),
    };
    let classes = class::of_server_header(answer.header("server"));
    let is_timeout = answer.status == StatusCode::GATEWAY_TIMEOUT && !refusal::is_of_gateway(&answer);
    if early == Early::Cut && is_timeout {
        return Ok((seen, classes));
    }
    if answer.status != StatusCode::OK || !answer.header("content-type").starts_with(format.content_type()) {
        return Err(refusal::of_answer(answer, way.url()).await);
    }
    let messages = read(&mut answer, format, begin, expected, &mut seen.events);
    seen.end = timeout_at(deadline, messages).await.unwrap_or(End::Cut);
    seen.ended = begin.elapsed();
    Ok((seen, classes))
}

async fn read(
    answer: &mut Answer,
    format: Format,
    begin: Instant,
    expected: u32,
    events: &mut Vec<Event>,
) -> End {
    let mut messages = format.messages();
    while let Ok(Some(bytes)) = answer.next().await {
        let arrived = begin.elapsed();
        for said in messages.push(&bytes) {
            events.push(Event { sent: Duration::from_millis(said.sent_unix_ms), arrived });
            if said.after_silence_ms.is_some() || events.len() >= expected as usize {
                return End::Whole;
            }
        }
    }
    End::Cut
}

/// The large upload and, if it is refused, smaller ones.
async fn uploads(way: &Way, large: u64) -> Result<Vec<(u64, Upload)>, Verdict> {
    let first = upload(way, large).await?;
    let mut uploads = vec![(large, first)];
    if first == Upload::Refused {
        for bytes in SMALLER.into_iter().filter(|bytes| *bytes < large) {
            let came = upload(way, bytes).await?;
            uploads.push((bytes, came));
            if came == Upload::Refused {
                break;
            }
        }
    }
    Ok(uploads)
}

async fn upload(way: &Way, bytes: u64) -> Result<Upload, Verdict> {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/agents/_probe/upload")
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, bytes)
        .body(zeros(bytes))
        .expect("constants make a request");
    let answer = match timeout_at(Instant::now() + UPLOAD, way.send(request)).await {
        Ok(Ok(answer)) => answer,
        // What is refused before it is read often ends with a reset instead of the answer.
        Ok(Err(HttpError::Exchange(_))) => return Ok(Upload::Refused),
        Ok(Err(error)) => return Err(refusal::of_error(&error, way.url())),
        Err(_) => return Err(refusal::of_error(&HttpError::Slow(UPLOAD), way.url())),
    };
    match answer.status {
        StatusCode::OK => Ok(Upload::Passed),
        StatusCode::PAYLOAD_TOO_LARGE => Ok(Upload::Refused),
        _ => Err(refusal::of_answer(answer, way.url()).await),
    }
}
