//! What is asked.
//!
//! Owns: the lines of a mix, patterns in paths, and requests made ready once so that sending one costs a write. Never
//! sends.
//!
//! A line is `WEIGHT METHOD PATH [BODY_BYTES]`. A pattern `{0..50}` in a path stands for each number from 0 to 49; of
//! several, each with each. All of a line's requests come equally often.

use std::fmt::Write as _;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use super::target::Target;

/// Requests of a mix together, at most: they are all in memory.
const MAX_REQUESTS: usize = 200_000;

/// The largest body that is sent.
const MAX_BODY: usize = 1 << 30;

/// A kind of request and how often it comes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Line {
    /// Out of the sum of all weights.
    pub(super) weight: u32,
    /// Its method.
    pub(super) method: Method,
    /// Its path, appended to that of the URL. May hold patterns.
    pub(super) path: String,
    /// Bytes of its body.
    pub(super) body_bytes: usize,
}

/// A request that is ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    /// As HTTP/1.1, without the body.
    pub(super) head: Bytes,
    /// Its body, shared by all of the same size.
    pub(super) body: Bytes,
    /// As HTTP/2.
    pub(super) request: Request<()>,
}

/// All that is asked of one address.
#[derive(Debug)]
pub(super) struct Mix {
    /// The sum of the weights up to and with this one, and the requests.
    lines: Vec<(u32, Vec<Prepared>)>,
    total: u32,
}

// === impl Line ===

impl Line {
    /// Reads `WEIGHT METHOD PATH [BODY_BYTES]`.
    ///
    /// # Errors
    /// Says what of it cannot be read.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let wrong =
            || format!("--mix {text:?} is not WEIGHT METHOD PATH [BODY_BYTES], as \"3 POST /call 4096\"");
        let mut words = text.split_whitespace();
        let weight: u32 = words.next().and_then(|word| word.parse().ok()).with_context(wrong)?;
        let method = words.next().and_then(|word| word.parse().ok()).with_context(wrong)?;
        let path = words.next().filter(|path| path.starts_with('/')).with_context(wrong)?.to_owned();
        let body_bytes: usize = words.next().map_or(Ok(0), str::parse).with_context(wrong)?;
        ensure!(words.next().is_none() && (1..=1_000_000).contains(&weight), wrong());
        ensure!(body_bytes <= MAX_BODY, "--mix {text:?}: a body has at most 1 GiB");
        Ok(Self { weight, method, path, body_bytes })
    }

    /// Reads the text of a file: a line each, empty ones and those with `#` left out.
    ///
    /// # Errors
    /// As [`Line::parse`], or when there is none.
    pub(super) fn parse_all(text: &str) -> anyhow::Result<Vec<Self>> {
        let lines: Vec<Self> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(Self::parse)
            .collect::<anyhow::Result<_>>()?;
        ensure!(!lines.is_empty(), "the file of --mix has no line");
        Ok(lines)
    }
}

// === impl Prepared ===

impl Prepared {
    fn new(
        target: &Target,
        line: &Line,
        path: &str,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> anyhow::Result<Self> {
        let uri = format!("http://{}{path}", target.authority);
        let mut request = Request::builder()
            .method(line.method.clone())
            .uri(&uri)
            .body(())
            .with_context(|| format!("{uri:?} is not a URL"))?;
        let mut head = format!("{} {path} HTTP/1.1\r\nHost: {}\r\n", line.method, target.authority);
        if !body.is_empty() || matches!(line.method, Method::POST | Method::PUT | Method::PATCH) {
            write!(head, "Content-Length: {}\r\n", body.len())?;
            request.headers_mut().insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        if !body.is_empty() && !headers.contains_key(http::header::CONTENT_TYPE) {
            head.push_str("Content-Type: application/json\r\n");
            let json = HeaderValue::from_static("application/json");
            request.headers_mut().insert(http::header::CONTENT_TYPE, json);
        }
        for (name, value) in headers {
            let text = value.to_str().with_context(|| format!("--header {name} is not of ASCII"))?;
            write!(head, "{name}: {text}\r\n")?;
            request.headers_mut().append(name, value.clone());
        }
        head.push_str("\r\n");
        Ok(Self { head: Bytes::from(head), body: body.clone(), request })
    }

    /// Whether the answer has no body, whatever its head says.
    #[must_use]
    pub(super) fn is_head(&self) -> bool {
        *self.request.method() == Method::HEAD
    }
}

// === impl Mix ===

impl Mix {
    /// Prepares every request of `lines` for every one of `targets`, which share an address.
    ///
    /// # Errors
    /// When a pattern cannot be read, a path is none, or there are more than 200,000 requests.
    pub(super) fn new(targets: &[Target], lines: &[Line], headers: &HeaderMap) -> anyhow::Result<Self> {
        let (mut prepared, mut total, mut count) = (Vec::new(), 0_u32, 0);
        for line in lines {
            let body = json(line.body_bytes);
            let mut requests = Vec::new();
            for target in targets {
                let path = join(&target.path, &line.path);
                for path in expand(&path)? {
                    requests.push(Prepared::new(target, line, &path, headers, &body)?);
                }
                ensure!(
                    count + requests.len() <= MAX_REQUESTS,
                    "the mix has more than {MAX_REQUESTS} requests"
                );
            }
            count += requests.len();
            total = total.checked_add(line.weight).context("the weights of --mix are too large together")?;
            prepared.push((total, requests));
        }
        ensure!(count > 0, "the mix has no request");
        Ok(Self { lines: prepared, total })
    }

    /// The next request, by weight.
    ///
    /// # Panics
    /// Never: a mix has at least one request, and each line has one.
    pub(super) fn pick(&self, random: &mut Rng) -> &Prepared {
        let line = match &self.lines[..] {
            [only] => only,
            lines => {
                let at = random.u32(0..self.total);
                lines.iter().find(|(up_to, _)| at < *up_to).expect("the last sum is the total")
            }
        };
        match &line.1[..] {
            [only] => only,
            requests => &requests[random.usize(0..requests.len())],
        }
    }

    /// How many different requests there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lines.iter().map(|(_, requests)| requests.len()).sum()
    }
}

/// Reads `Name: value` lines.
///
/// # Errors
/// When one is no header field.
pub(super) fn headers(lines: &[String]) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let wrong = || format!("--header {line:?} is not \"Name: value\"");
        let (name, value) = line.split_once(':').with_context(wrong)?;
        let name: HeaderName = name.trim().parse().with_context(wrong)?;
        let owned = [http::header::CONTENT_LENGTH, http::header::TRANSFER_ENCODING, http::header::HOST];
        ensure!(!owned.contains(&name), "--header {name} is set by load itself");
        headers.append(name, HeaderValue::from_str(value.trim()).with_context(wrong)?);
    }
    Ok(headers)
}

/// A JSON document of so many bytes, where that can be one: an agent that reads its body must not choke on it.
fn json(bytes: usize) -> Bytes {
    const FRAME: (&str, &str) = ("{\"pad\":\"", "\"}");
    match bytes.checked_sub(FRAME.0.len() + FRAME.1.len()) {
        Some(pad) => Bytes::from(format!("{}{}{}", FRAME.0, "x".repeat(pad), FRAME.1)),
        None => Bytes::from("1".repeat(bytes)),
    }
}

fn join(base: &str, path: &str) -> String {
    if path.is_empty() { base.to_owned() } else { format!("{}{path}", base.trim_end_matches('/')) }
}

/// Every path that `pattern` stands for.
fn expand(pattern: &str) -> anyhow::Result<Vec<String>> {
    let Some((before, rest)) = pattern.split_once('{') else { return Ok(vec![pattern.to_owned()]) };
    let wrong = || format!("the path {pattern:?} has a pattern that is not {{FROM..TO}}, as {{0..50}}");
    let (range, after) = rest.split_once('}').with_context(wrong)?;
    let (from, to) = range.split_once("..").with_context(wrong)?;
    let (from, to): (usize, usize) = (from.parse().with_context(wrong)?, to.parse().with_context(wrong)?);
    ensure!(from < to, wrong());
    let tails = expand(after)?;
    if (to - from).saturating_mul(tails.len()) > MAX_REQUESTS {
        bail!("the path {pattern:?} stands for more than {MAX_REQUESTS} requests");
    }
    Ok((from..to).flat_map(|n| tails.iter().map(move |tail| format!("{before}{n}{tail}"))).collect())
}

#[cfg(test)]
mod tests;
