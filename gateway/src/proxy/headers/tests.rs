//! Every rule about headers, one by one.

use super::*;

fn mk_headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn prepared(lines: &[(&str, &str)], trusted: bool) -> HeaderMap {
    let mut headers = mk_headers(lines);
    let host = host(&headers, None, Version::HTTP_11).unwrap();
    let request_id = HeaderValue::from_static("id-1");
    let facts = Facts {
        client: Some("192.0.2.1".parse().unwrap()),
        trusted,
        key: "ns/agent",
        upstream_host: None,
        request_id: &request_id,
    };
    prepare_request(&mut headers, host, &facts);
    headers
}

fn get<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn an_untrusted_peer_is_described_by_us_alone() {
    let headers = prepared(
        &[
            ("host", "public.example"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-prefix", "/evil"),
            ("x-forwarded-port", "1"),
            ("x_forwarded_for", "3.3.3.3"),
            ("x-forwarded_host", "evil"),
            ("x_real_ip", "4.4.4.4"),
            ("x-real-ip", "5.5.5.5"),
            ("forwarded", "for=6.6.6.6"),
            ("x-request-id", "old"),
            ("traceparent", "tp"),
            ("authorization", "secret"),
        ],
        false,
    );
    assert_eq!(get(&headers, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(get(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(get(&headers, "x-forwarded-host"), ["public.example"]);
    assert_eq!(get(&headers, "x-forwarded-prefix"), ["/v1/agents/ns/agent"]);
    assert_eq!(get(&headers, "host"), ["public.example"]);
    assert_eq!(get(&headers, "x-request-id"), ["id-1"]);
    for gone in
        ["x-forwarded-port", "x_forwarded_for", "x-forwarded_host", "x_real_ip", "x-real-ip", "forwarded"]
    {
        assert_eq!(get(&headers, gone), [""; 0], "{gone}");
    }
    assert_eq!(get(&headers, "traceparent"), ["tp"]);
    assert_eq!(get(&headers, "authorization"), ["secret"]);
}

#[test]
fn a_trusted_peer_is_believed_and_appended_to() {
    let headers = prepared(
        &[
            ("host", "internal"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2, 3.3.3.3"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "public.example"),
            ("x-forwarded-prefix", "/base/"),
            ("x-forwarded-port", "443"),
            ("x_forwarded_for", "9.9.9.9"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ],
        true,
    );
    assert_eq!(get(&headers, "x-forwarded-for"), ["1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.1"]);
    assert_eq!(get(&headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(get(&headers, "x-forwarded-host"), ["public.example"]);
    assert_eq!(get(&headers, "x-forwarded-prefix"), ["/base/v1/agents/ns/agent"]);
    assert_eq!(get(&headers, "x-forwarded-port"), ["443"]);
    assert_eq!(get(&headers, "x-real-ip"), ["1.1.1.1"]);
    assert_eq!(get(&headers, "forwarded"), ["for=1.1.1.1"]);
    assert_eq!(get(&headers, "x_forwarded_for"), [""; 0]);
    assert_eq!(get(&headers, "host"), ["internal"]);
}

#[test]
fn a_trusted_peer_that_says_nothing_is_the_first_hop() {
    let headers = prepared(&[("host", "h")], true);
    assert_eq!(get(&headers, "x-forwarded-for"), ["192.0.2.1"]);
    assert_eq!(get(&headers, "x-forwarded-prefix"), ["/v1/agents/ns/agent"]);
}

#[test]
fn the_agent_may_see_localhost() {
    let mut headers = mk_headers(&[("host", "public.example")]);
    let found = host(&headers, None, Version::HTTP_11).unwrap();
    let (seen, request_id) = (HeaderValue::from_static("localhost:8080"), HeaderValue::from_static("id"));
    let facts = Facts {
        client: None,
        trusted: false,
        key: "a/b",
        upstream_host: Some(&seen),
        request_id: &request_id,
    };
    prepare_request(&mut headers, found, &facts);
    assert_eq!(get(&headers, "host"), ["localhost:8080"]);
    assert_eq!(get(&headers, "x-forwarded-host"), ["public.example"]);
}

#[test]
fn http2_has_its_host_in_the_authority() {
    let authority = "h2.example:8080".parse().unwrap();
    let found = host(&HeaderMap::new(), Some(&authority), Version::HTTP_2).unwrap();
    assert_eq!(found.unwrap(), "h2.example:8080");
    assert_eq!(host(&HeaderMap::new(), None, Version::HTTP_11), Err(CallError::MissingHost));
    assert_eq!(host(&HeaderMap::new(), None, Version::HTTP_10), Ok(None));
}

#[test]
fn connection_must_not_name_a_header_of_ours() {
    let check = |value: &str| {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        check_connection(&HeaderMap::from_iter([(CONNECTION, value)]))
    };
    for bad in [
        "x-forwarded-for",
        "close, X-Forwarded-Prefix",
        "X_Forwarded_Host",
        "x-forwarded-anything",
        "x-request-id",
        "Host",
        "forwarded",
        "x-real-ip",
        "\"x-forwarded-for\"",
        "a b",
        "\u{e4}",
        "a,b,c,d,e,f,g,h,i,j",
    ] {
        assert_eq!(check(bad), Err(CallError::BadConnectionHeader), "{bad}");
    }
    for good in ["close", "keep-alive, upgrade", "x-own", "", ",a,,", "a,b,c,d,e,f,g,h,i"] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
}

#[test]
fn a_good_request_id_is_kept_and_any_other_is_replaced() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut id =
        |lines: &[(&str, &str)]| request_id(&mk_headers(lines), &mut rng).to_str().unwrap().to_owned();
    let longest = "a".repeat(128);
    for good in ["1", "aB9._-", &longest] {
        assert_eq!(id(&[("x-request-id", good)]), good);
    }
    let long = "a".repeat(129);
    for bad in ["", "a b", "a/b", "\"", &long] {
        let made = id(&[("x-request-id", bad)]);
        assert_eq!(made.len(), 32, "{bad}");
        assert!(made.bytes().all(|b| b.is_ascii_hexdigit()));
    }
    assert_eq!(id(&[("x-request-id", "a"), ("x-request-id", "b")]).len(), 32);
    assert_ne!(id(&[]), id(&[]));
}

#[test]
fn an_answer_loses_what_is_the_hops_and_what_acts_on_the_origin() {
    let headers = mk_headers(&[
        ("connection", "close, X-Hop, content-length"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5, max=100"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("trailer", "x"),
        ("upgrade", "h2c"),
        ("x-accel-redirect", "/etc"),
        ("x-accel-buffering", "yes"),
        ("x-sendfile", "/etc"),
        ("alt-svc", "h3"),
        ("strict-transport-security", "max-age=1"),
        ("clear-site-data", "*"),
        ("content-length", "1"),
        ("set-cookie", "a=b"),
    ]);
    let Cleanup { mut remove, keep_alive } = clean_response(&headers, false);
    remove.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
    let names: Vec<&str> = remove.iter().map(HeaderName::as_str).collect();
    assert_eq!(
        names,
        [
            "alt-svc",
            "clear-site-data",
            "keep-alive",
            "proxy-connection",
            "strict-transport-security",
            "te",
            "trailer",
            "upgrade",
            "x-accel-buffering",
            "x-accel-redirect",
            "x-hop",
            "x-sendfile",
        ]
    );
    assert_eq!(keep_alive, Some(5));
}

#[test]
fn an_upgrade_keeps_its_connection_headers() {
    let headers = mk_headers(&[("connection", "upgrade"), ("upgrade", "websocket"), ("alt-svc", "h3")]);
    assert_eq!(clean_response(&headers, true).remove, [HeaderName::from_static("alt-svc")]);
}

#[test]
fn event_streams_are_told_by_their_media_type() {
    let is = |value: &str| is_event_stream(&mk_headers(&[("content-type", value)]));
    assert!(is("text/event-stream"));
    assert!(is("Text/Event-Stream; charset=utf-8"));
    assert!(!is("text/event-streams"));
    assert!(!is("application/json"));
    let accepts = |value: &str| accepts_event_stream(&mk_headers(&[("accept", value)]));
    assert!(accepts("application/json, text/event-stream;q=0.9"));
    assert!(accepts("text/event-stream"));
    assert!(!accepts("*/*"));
    assert!(!accepts("text/*"));
}

#[test]
fn hosts_are_compared_without_case_and_port() {
    let hosts = AllowedHosts::new(["Agents.example".to_owned(), "::1".to_owned()]);
    let allow = |host: &str| hosts.allow(&HeaderValue::from_str(host).unwrap());
    assert!(allow("agents.example"));
    assert!(allow("AGENTS.EXAMPLE:8080"));
    assert!(allow("[::1]:8080"));
    assert!(!allow("agents.example.evil"));
    assert!(!allow("evil"));
    assert!(AllowedHosts::default().allow(&HeaderValue::from_static("any")));
}
