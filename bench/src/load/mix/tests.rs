use super::*;

fn target(path: &str) -> Target {
    Target { address: "127.0.0.1:80".parse().unwrap(), authority: "h".to_owned(), path: path.to_owned() }
}

#[test]
fn reads_lines_and_says_what_is_wrong() {
    let lines = Line::parse_all("# calls\n3 POST /call 4096\n\n 1 GET /x\n").unwrap();
    assert_eq!(
        lines[0],
        Line { weight: 3, method: Method::POST, path: "/call".to_owned(), body_bytes: 4096 }
    );
    assert_eq!((lines[1].weight, lines[1].body_bytes), (1, 0));
    for text in ["", "x GET /", "0 GET /", "1 GET", "1 GET x", "1 GET / x", "1 GET / 1 1", "1 G(T /"] {
        assert!(format!("{:#}", Line::parse(text).unwrap_err()).contains("WEIGHT METHOD PATH"), "{text}");
    }
    assert!(Line::parse_all("# none").is_err());
}

#[test]
fn a_pattern_stands_for_each_with_each() {
    assert_eq!(expand("/a").unwrap(), ["/a"]);
    assert_eq!(expand("/a{0..2}/b{7..9}c").unwrap(), ["/a0/b7c", "/a0/b8c", "/a1/b7c", "/a1/b8c"]);
    for text in ["/{", "/{}", "/{1}", "/{2..2}", "/{0..9999999}", "/{0..9999}{0..9999}", "/{a..b}"] {
        assert!(expand(text).is_err(), "{text}");
    }
}

#[test]
fn a_request_is_whole() {
    let line = Line::parse("1 POST /call 20").unwrap();
    let extra = headers(&["X-Team: a".to_owned()]).unwrap();
    let mix = Mix::new(&[target("/base/")], &[line], &extra).unwrap();
    let prepared = mix.pick(&mut Rng::new());
    let head = "POST /base/call HTTP/1.1\r\nHost: h\r\nContent-Length: 20\r\nContent-Type: application/json\r\nx-team: a\r\n\r\n";
    assert_eq!(prepared.head, head);
    assert_eq!(prepared.body, "{\"pad\":\"xxxxxxxxxx\"}");
    assert_eq!(prepared.request.uri(), "http://h/base/call");
    assert_eq!(prepared.request.headers().len(), 3);
    assert_eq!((json(0).len(), json(3).len(), json(10).len(), json(4096).len()), (0, 3, 10, 4096));
}

#[test]
fn requests_come_by_weight() {
    let lines = [Line::parse("9 GET /often/{0..3}").unwrap(), Line::parse("1 GET /seldom").unwrap()];
    let mix = Mix::new(&[target("/")], &lines, &HeaderMap::new()).unwrap();
    assert_eq!(mix.count(), 4);
    let mut random = Rng::with_seed(1);
    let mut seldom = 0;
    for _ in 0..10_000 {
        seldom += usize::from(mix.pick(&mut random).request.uri().path() == "/seldom");
    }
    assert!((800..1200).contains(&seldom), "{seldom}");
}

#[test]
fn fields_that_load_owns_are_refused() {
    for text in ["x", ": a", "Host: a", "content-length: 3", "a: \u{1}"] {
        assert!(headers(&[text.to_owned()]).is_err(), "{text}");
    }
}
