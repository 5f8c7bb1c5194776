//! Which agent a request-target names, and what of it is the agent's.
//!
//! Pure, byte for byte, and without an allocation: what is cut off is cut off as one slice, and nothing is
//! decoded, folded or normalised.

/// What a request-target asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A call to an agent.
    Agent {
        /// `namespace/name`, as it stands in the target.
        key: &'a str,
        /// What the agent gets: empty, or it begins with `/`. Without the query.
        rest: &'a [u8],
        /// The query with its `?`, empty where there is none.
        query: &'a [u8],
    },
    /// The stream of the synthetic probe.
    ProbeStream {
        /// The query with its `?`, empty where there is none.
        query: &'a [u8],
    },
    /// The upload of the synthetic probe.
    ProbeUpload,
    /// The health check `/healthz`.
    Healthz,
    /// The health check `/readyz`.
    Readyz,
    /// A model route of the Go system.
    Models,
    /// Below `/v1/agents`, but it names no agent.
    BadAgent,
    /// Nothing that is served.
    Unknown,
}

const AGENTS: &[u8] = b"/v1/agents";
/// Below [`AGENTS`], which every ingress routes. No DNS label begins with an underscore, so it is no namespace.
const PROBE: &[u8] = b"/_probe";
/// Upstream's OpenAI-shaped routes, which are out of scope and say so.
const MODELS: [&[u8]; 4] = [b"/v1/models", b"/v1/chat", b"/v1/completions", b"/v1/embeddings"];

/// Splits `raw`, a request-target as it came: origin-form, or absolute-form, whose scheme and authority are
/// passed over (the latter was held against Host before).
#[must_use]
pub fn split(raw: &[u8]) -> Target<'_> {
    let target = origin_form(raw);
    let end = target.iter().position(|&b| b == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    match path {
        b"/healthz" => return Target::Healthz,
        b"/readyz" => return Target::Readyz,
        _ => {}
    }
    let Some(below) = path.strip_prefix(AGENTS) else {
        let is_model = MODELS.iter().any(|prefix| is_at_or_below(path, prefix));
        return if is_model { Target::Models } else { Target::Unknown };
    };
    if is_at_or_below(below, PROBE) {
        return match &below[PROBE.len()..] {
            b"/stream" => Target::ProbeStream { query },
            b"/upload" => Target::ProbeUpload,
            _ => Target::Unknown,
        };
    }
    match below {
        [] => Target::BadAgent,
        [b'/', names @ ..] => agent(names, query),
        // `/v1/agentsmith` is somebody else's path.
        _ => Target::Unknown,
    }
}

/// `namespace/name` and the rest behind it.
fn agent<'a>(names: &'a [u8], query: &'a [u8]) -> Target<'a> {
    let slash = |bytes: &[u8]| bytes.iter().position(|&b| b == b'/');
    let Some(first) = slash(names) else { return Target::BadAgent };
    let end = slash(&names[first + 1..]).map_or(names.len(), |second| first + 1 + second);
    let (namespace, name) = (&names[..first], &names[first + 1..end]);
    let are_labels = krypton_discovery::is_dns_label(namespace) && krypton_discovery::is_dns_label(name);
    match std::str::from_utf8(&names[..end]) {
        Ok(key) if are_labels => Target::Agent { key, rest: &names[end..], query },
        _ => Target::BadAgent,
    }
}

fn origin_form(raw: &[u8]) -> &[u8] {
    if raw.first() == Some(&b'/') {
        return raw;
    }
    let Some(scheme) = raw.windows(3).position(|w| w == b"://") else { return raw };
    let authority = &raw[scheme + 3..];
    // A target without a path is `/`, RFC 9112 §3.2.2; with a query only, the query is all that is left.
    match authority.iter().position(|b| matches!(b, b'/' | b'?')) {
        Some(start) => &authority[start..],
        None => b"/",
    }
}

fn is_at_or_below(path: &[u8], prefix: &[u8]) -> bool {
    path.strip_prefix(prefix).is_some_and(|below| below.first().is_none_or(|b| *b == b'/'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(raw: &str) -> (&str, &str, &str) {
        match split(raw.as_bytes()) {
            Target::Agent { key, rest, query } => {
                (key, std::str::from_utf8(rest).unwrap(), std::str::from_utf8(query).unwrap())
            }
            other => panic!("{raw}: {other:?}"),
        }
    }

    #[test]
    fn the_rest_is_byte_for_byte() {
        assert_eq!(call("/v1/agents/ns/a"), ("ns/a", "", ""));
        assert_eq!(call("/v1/agents/ns/a?q=1"), ("ns/a", "", "?q=1"));
        assert_eq!(call("/v1/agents/ns/a/"), ("ns/a", "/", ""));
        assert_eq!(call("/v1/agents/ns/a/x/y?z"), ("ns/a", "/x/y", "?z"));
        assert_eq!(call("/v1/agents/ns/a/x%2Fy%20z"), ("ns/a", "/x%2Fy%20z", ""));
        assert_eq!(call("/v1/agents/ns/a//../.;p=1//"), ("ns/a", "//../.;p=1//", ""));
        assert_eq!(call("/v1/agents/ns/a/x?a=/b?c=%zz;d"), ("ns/a", "/x", "?a=/b?c=%zz;d"));
        assert_eq!(call("http://host:1/v1/agents/ns/a/x?y"), ("ns/a", "/x", "?y"));
        let raw = b"/v1/agents/ns/a/\xff\xfe?\xfd";
        assert_eq!(split(raw), Target::Agent { key: "ns/a", rest: b"/\xff\xfe", query: b"?\xfd" });
    }

    #[test]
    fn names_are_dns_labels_as_they_stand() {
        let bad = [
            "/v1/agents",
            "/v1/agents/",
            "/v1/agents/ns",
            "/v1/agents/ns/",
            "/v1/agents//a",
            "/v1/agents/ns//a",
            "/v1/agents/Ns/a",
            "/v1/agents/ns/A",
            "/v1/agents/n%73/a",
            "/v1/agents/../a",
            "/v1/agents/ns/..",
            "/v1/agents/-ns/a",
            "/v1/agents/ns/a-",
            "/v1/agents/n_s/a",
            "/v1/agents?x",
            "/v1/agents/ns?/a",
        ];
        for raw in bad {
            assert_eq!(split(raw.as_bytes()), Target::BadAgent, "{raw}");
        }
    }

    #[test]
    fn the_probe_is_at_two_exact_paths() {
        let stream = |query| Target::ProbeStream { query };
        assert_eq!(split(b"/v1/agents/_probe/stream"), stream(b""));
        assert_eq!(split(b"/v1/agents/_probe/stream?events=1"), stream(b"?events=1"));
        assert_eq!(split(b"http://host/v1/agents/_probe/stream"), stream(b""));
        assert_eq!(split(b"/v1/agents/_probe/upload"), Target::ProbeUpload);
        for raw in ["", "?x", "/", "/other", "/stream/", "/stream/x", "/upload/", "//stream", "/Stream"] {
            let raw = format!("/v1/agents/_probe{raw}");
            assert_eq!(split(raw.as_bytes()), Target::Unknown, "{raw}");
        }
        for raw in ["/v1/agents/_probes/stream", "/v1/agents/%5fprobe/stream", "/v1/agents/ns/_probe"] {
            assert_eq!(split(raw.as_bytes()), Target::BadAgent, "{raw}");
        }
    }

    #[test]
    fn other_paths_are_told_apart() {
        assert_eq!(split(b"/healthz"), Target::Healthz);
        assert_eq!(split(b"/readyz?verbose"), Target::Readyz);
        for raw in ["/v1/models", "/v1/models/x", "/v1/chat/completions", "/v1/embeddings?x"] {
            assert_eq!(split(raw.as_bytes()), Target::Models, "{raw}");
        }
        for raw in
            ["/", "", "*", "/v1", "/v1/agentsmith/ns/a", "/v1/modelsx", "/healthz/", "//v1/agents/ns/a"]
        {
            assert_eq!(split(raw.as_bytes()), Target::Unknown, "{raw}");
        }
        assert_eq!(split(b"http://host"), Target::Unknown);
        assert_eq!(split(b"http://host?/v1/agents/ns/a"), Target::Unknown);
    }

    /// As simple as can be, and slow.
    fn reference(raw: &str) -> Option<(String, String, String)> {
        let (path, query) = match raw.split_once('?') {
            Some((path, query)) => (path, format!("?{query}")),
            None => (raw, String::new()),
        };
        let parts: Vec<&str> = path.splitn(6, '/').collect();
        let ["", "v1", "agents", namespace, name, rest @ ..] = parts.as_slice() else { return None };
        let key: krypton_discovery::AgentKey = format!("{namespace}/{name}").parse().ok()?;
        let rest = rest.first().map(|rest| format!("/{rest}")).unwrap_or_default();
        Some((key.to_string(), rest, query))
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(raw in "(/v1/agents)?(/[a-cA-C.%_-]{0,3}){0,5}(\\?[a-c/?]{0,4})?") {
            let got = match split(raw.as_bytes()) {
                Target::Agent { key, rest, query } => {
                    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                    Some((key.to_owned(), text(rest), text(query)))
                }
                _ => None,
            };
            prop_assert_eq!(got, reference(&raw));
        }

        #[test]
        fn nothing_is_lost(raw in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut whole = b"/v1/agents/ns/a/".to_vec();
            whole.extend(&raw);
            let Target::Agent { key: "ns/a", rest, query } = split(&whole) else {
                return Err(TestCaseError::fail("not a call"));
            };
            prop_assert_eq!([b"/v1/agents/ns/a", rest, query].concat(), whole);
        }
    }
}
