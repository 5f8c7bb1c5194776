use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};

use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn query(query: &str) -> Result<Knobs, BadKnob> {
    Knobs::parse(&HeaderMap::new(), Some(query))
}

/// A value of each knob that differs from its default.
const EXAMPLES: &[(&str, &str)] = &[
    ("delay", "2s"),
    ("chunks", "3"),
    ("size", "16777216"),
    ("pace", "10ms"),
    ("status", "503"),
    ("abort", "2"),
    ("cut", "reset"),
    ("sse", "1"),
    ("length", "0"),
    ("read-pace", "24h"),
];

fn examples() -> Knobs {
    Knobs {
        delay: Duration::from_secs(2),
        chunks: Some(3),
        size: Some(16 << 20),
        pace: Some(Duration::from_millis(10)),
        status: StatusCode::SERVICE_UNAVAILABLE,
        abort: Some(Abort::AfterChunks(2)),
        reset: true,
        sse: Some(true),
        length: Some(false),
        read_pace: MAX_TIME,
    }
}

#[test]
fn each_knob_is_read_from_the_query_and_from_a_header() {
    assert_eq!(
        EXAMPLES.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        KNOBS.iter().map(|k| k.name).collect::<Vec<_>>()
    );
    let text: Vec<_> = EXAMPLES.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(query(&text.join("&")), Ok(examples()));

    let names: Vec<_> = EXAMPLES.iter().map(|(name, value)| (format!("x-agent-{name}"), *value)).collect();
    let pairs: Vec<_> = names.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(Knobs::parse(&headers(&pairs), None), Ok(examples()));
}

#[test]
fn the_query_wins_over_a_header() {
    let knobs = Knobs::parse(&headers(&[("x-agent-delay", "5s"), ("x-agent-chunks", "4")]), Some("delay=1s"));
    assert_eq!(knobs, Ok(Knobs { delay: Duration::from_secs(1), chunks: Some(4), ..Knobs::default() }));
}

#[test]
fn names_of_the_caller_are_left_alone() {
    for text in ["", "a=1&b", "Delay=x", "delayed=1", "&&=&%64elay=9", "x-agent-delay=9"] {
        assert_eq!(query(text), Ok(Knobs::default()), "{text}");
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    for (name, bad) in [
        ("delay", "5"),
        ("delay", "1d"),
        ("delay", "s"),
        ("delay", "1.5s"),
        ("delay", "25h"),
        ("delay", "86400001ms"),
        ("delay", "18446744073709551615m"),
        ("chunks", "10000001"),
        ("chunks", "+1"),
        ("chunks", "-1"),
        ("chunks", ""),
        ("size", "0"),
        ("size", "16777217"),
        ("status", "199"),
        ("status", "600"),
        ("status", "70000"),
        ("abort", "soon"),
        ("abort", "4294967296"),
        ("cut", ""),
        ("sse", "true"),
        ("length", "2"),
        ("read-pace", "x"),
        ("pace", "%31s"),
    ] {
        let error = query(&format!("a=b&{name}={bad}")).expect_err(bad);
        assert_eq!((error.knob(), matches!(error, BadKnob::Value { .. })), (name, true), "{bad}");
        let error = Knobs::parse(&headers(&[(&format!("x-agent-{name}"), bad)]), None).expect_err(bad);
        assert_eq!(error.knob(), name, "{bad}");
    }
}

#[test]
fn a_value_that_is_not_text_is_refused() {
    let mut headers = HeaderMap::new();
    headers.insert("x-agent-delay", HeaderValue::from_bytes(b"\xff").unwrap());
    assert_eq!(
        Knobs::parse(&headers, None),
        Err(BadKnob::Value { knob: "delay", takes: "a time such as `250ms`" })
    );
}

#[test]
fn a_knob_given_twice_is_refused() {
    assert_eq!(query("delay=1s&delay=1s"), Err(BadKnob::Repeated { knob: "delay" }));
    let twice = headers(&[("x-agent-size", "1"), ("x-agent-size", "2")]);
    assert_eq!(Knobs::parse(&twice, None), Err(BadKnob::Repeated { knob: "size" }));
}

#[test]
fn a_header_that_is_no_knob_is_refused() {
    let error = Knobs::parse(&headers(&[("x-agent-dealy", "1s")]), None).expect_err("misspelt");
    assert_eq!(error, BadKnob::Unknown { knob: "x-agent-dealy".to_owned() });
}

#[test]
fn the_readme_lists_every_knob() {
    let mut table = "| knob | takes | does |\n|---|---|---|\n".to_owned();
    for knob in KNOBS {
        writeln!(table, "| `{}` | {} | {} |", knob.name, knob.takes, knob.does).unwrap();
    }
    table.push('\n');
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&table), "the README's table of knobs should read:\n{table}");
}
