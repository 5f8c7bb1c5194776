//! The split of a request-target against a brute-force reference: every way to cut the bytes is tried.
//!
//! Each input is split as it stands and again behind the agents' prefix, so that the search need not find that.

#![no_main]

// The gateway's own source, which needs nothing else of the gateway: linking that would build Pingora for this.
#[path = "../../gateway/src/path.rs"]
mod path;

use krypton_discovery::is_dns_label;
use libfuzzer_sys::fuzz_target;
use path::{Target, split};

const PREFIX: &[u8] = b"/v1/agents/";

/// Namespace, name, rest and query.
type Parts<'a> = [&'a [u8]; 4];

fuzz_target!(|data: &[u8]| {
    check(data);
    check(&[PREFIX, data].concat());
    check(&[b"http://host".as_slice(), PREFIX, data].concat());
});

fn check(raw: &[u8]) {
    let whole = origin(raw);
    let expected = cuts(whole);
    match split(raw) {
        Target::Agent { key, rest, query } => {
            let (namespace, name) = key.split_once('/').expect("a key has a slash");
            let got: Parts<'_> = [namespace.as_bytes(), name.as_bytes(), rest, query];
            assert_eq!(expected, [got], "the one way to cut it");
            assert_eq!([PREFIX, key.as_bytes(), rest, query].concat(), whole, "nothing is lost");
        }
        other => {
            assert_eq!(expected, [] as [Parts<'_>; 0], "{other:?}");
            let path = whole.split(|&byte| byte == b'?').next().unwrap_or_default();
            assert_eq!(path == b"/healthz", other == Target::Healthz);
            assert_eq!(path == b"/readyz", other == Target::Readyz);
            let below = path == b"/v1/agents" || path.starts_with(PREFIX);
            assert_eq!(below, other == Target::BadAgent);
        }
    }
}

/// Every way to read `whole` as a call.
fn cuts(whole: &[u8]) -> Vec<Parts<'_>> {
    let Some(names) = whole.strip_prefix(PREFIX) else { return Vec::new() };
    let mut found = Vec::new();
    let labels = |slash: usize, end: usize| {
        names[slash] == b'/' && is_dns_label(&names[..slash]) && is_dns_label(&names[slash + 1..end])
    };
    let slashes = 0..names.len();
    let ends = slashes.flat_map(|slash| (slash + 1..=names.len()).map(move |end| (slash, end)));
    for (slash, end) in ends.filter(|&(slash, end)| labels(slash, end)) {
        for question in end..=names.len() {
            let (rest, query) = (&names[end..question], &names[question..]);
            let fits = matches!(rest.first(), None | Some(b'/'))
                && matches!(query.first(), None | Some(b'?'))
                && !rest.contains(&b'?');
            if fits {
                found.push([&names[..slash], &names[slash + 1..end], rest, query]);
            }
        }
    }
    found
}

/// What stands behind scheme and authority. A target that begins with `/` has neither.
fn origin(raw: &[u8]) -> &[u8] {
    let ends = |at: &usize| matches!(raw[*at], b'/' | b'?');
    if raw.starts_with(b"/") {
        return raw;
    }
    match (0..raw.len()).find(|&at| raw[at..].starts_with(b"://")) {
        None => raw,
        Some(scheme) => (scheme + 3..raw.len()).find(ends).map_or(b"/", |start| &raw[start..]),
    }
}
