use super::*;

fn chunks(bytes: &[u8], step: usize) -> (Vec<u8>, bool, usize) {
    let (mut chunks, mut data, mut over) = (Chunks::new(), Vec::new(), 0);
    for piece in bytes.chunks(step) {
        over += chunks.take(piece, |bytes| data.extend_from_slice(bytes)).unwrap().len();
    }
    (data, chunks.is_done(), over)
}

#[test]
fn a_head_is_whole_or_not_there() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    for end in 0..bytes.len() - 5 {
        assert_eq!(head(&bytes[..end], false), Ok(None));
    }
    let head = head(bytes, false).unwrap().unwrap();
    assert_eq!((head.status, head.bytes, head.body), (200, bytes.len() - 5, Body::Length(5)));
    assert!(head.keep_alive && !head.event_stream);
}

#[test]
fn a_body_ends_as_its_head_says() {
    let body = |text: &str, is_head| head(text.as_bytes(), is_head).unwrap().unwrap();
    let chunked = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
    assert!(matches!(body(chunked, false).body, Body::Chunked(_)));
    assert_eq!(body(chunked, true).body, Body::Length(0));
    assert_eq!(body("HTTP/1.1 204 No Content\r\n\r\n", false).body, Body::Length(0));
    let open = body("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", false);
    assert_eq!(open.body, Body::UntilClose);
    assert!(open.event_stream && !open.keep_alive);
    assert!(!body("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", false).keep_alive);
    assert!(!body("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n", false).keep_alive);
}

#[test]
fn what_is_not_http_is_refused() {
    for text in [
        "SSH-2.0-x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
    ] {
        assert_eq!(head(text.as_bytes(), false), Err(Malformed), "{text}");
    }
    for text in ["\r\n", "g\r\n", "5\r\nhelloX", "11111111111111111\r\n"] {
        assert_eq!(Chunks::new().take(text.as_bytes(), |_| ()), Err(Malformed), "{text}");
    }
}

#[test]
fn chunks_come_apart_however_they_are_cut() {
    let bytes = b"5\r\nhello\r\n1;name=value\r\n \r\n5\r\nworld\r\n0\r\nsome: trailer\r\n\r\nHTTP";
    for step in 1..bytes.len() {
        assert_eq!(chunks(bytes, step), (b"hello world".to_vec(), true, 4), "{step}");
        for end in 0..bytes.len() - 4 {
            assert!(!chunks(&bytes[..end], step).1, "{end}");
        }
    }
    assert_eq!(chunks(b"0\r\n\r\n", 2), (Vec::new(), true, 0));
    assert!(!chunks(b"0\r\nx\n", 9).1);
}
