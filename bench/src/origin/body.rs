//! The bytes of answers: a pattern that shows a piece that is missing or twice, JSON documents, events. Pure.

use std::fmt::Write as _;
use std::sync::LazyLock;

use bytes::{BufMut as _, Bytes, BytesMut};

/// Bytes after which the pattern begins anew. Longer than any buffer would be wrong by: what a proxy leaves out or
/// sends twice is never a multiple of it.
const PERIOD: usize = 65_521;

/// What is written at once of a long answer.
const PIECE: usize = PERIOD * 4;

static PATTERN: LazyLock<Bytes> = LazyLock::new(|| (0..PIECE).map(byte).collect());

/// The byte at `index` of an answer, safe inside of a JSON string.
fn byte(index: usize) -> u8 {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // Neighbouring rows of 64 differ, so that rows cannot change places unseen.
    let index = index % PERIOD;
    LETTERS[(index + index / 64 + index / 4096) % 64]
}

/// The bytes from `from` to `to` of the answer to `/bytes/N`, as far as they go in one piece.
#[must_use]
pub fn pattern(from: usize, to: usize) -> Bytes {
    let start = from % PERIOD;
    let length = to.saturating_sub(from).min(PIECE - start);
    PATTERN.slice(start..start + length)
}

/// The first that is wrong in what came of an answer of `/bytes/N`; `None`: all of it is as it was sent.
#[must_use]
pub fn first_wrong(came: &[u8]) -> Option<usize> {
    came.iter().enumerate().position(|(index, came)| *came != byte(index))
}

/// A JSON document of `size` bytes (or as few more as it needs) that says how many bytes a request had.
#[must_use]
pub fn json(received: u64, size: usize) -> Bytes {
    let mut text = BytesMut::with_capacity(size.max(64));
    write!(text, r#"{{"received":{received},"pad":""#).expect("writing into a buffer cannot fail");
    let mut left = size.saturating_sub(text.len() + 2);
    while left > 0 {
        let piece = pattern(0, left);
        text.put_slice(&piece);
        left -= piece.len();
    }
    text.put_slice(br#""}"#);
    text.freeze()
}

/// One event of a stream, with the time at which it is sent.
pub fn event(into: &mut BytesMut, sequence: u64, sent_ns: u64, pad: usize) {
    write!(into, "id: {sequence}\ndata: {{\"seq\":{sequence},\"sent_ns\":{sent_ns}")
        .expect("writing into a buffer cannot fail");
    if pad > 0 {
        into.put_slice(b",\"pad\":\"");
        let mut left = pad;
        while left > 0 {
            let piece = pattern(0, left);
            into.put_slice(&piece);
            left -= piece.len();
        }
        into.put_slice(b"\"");
    }
    into.put_slice(b"}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_same_in_whatever_pieces_it_goes() {
        let size = PIECE * 2 + 100;
        let mut whole = Vec::new();
        while whole.len() < size {
            let piece = pattern(whole.len(), size.min(whole.len() + 70_000));
            whole.extend_from_slice(&piece);
        }
        assert_eq!(whole.len(), size);
        assert_eq!(first_wrong(&whole), None);
    }

    #[test]
    fn a_piece_that_is_missing_is_seen() {
        let mut whole = pattern(0, 100_000).to_vec();
        whole.drain(4096..8192);
        assert!(first_wrong(&whole).is_some_and(|index| (4096..8192).contains(&index)));
    }

    #[test]
    fn documents_have_the_size_that_was_asked_for_and_can_be_read() {
        for size in [64, 1024, 400_000] {
            let text = json(4096, size);
            let read: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!((text.len(), &read["received"]), (size, &4096.into()));
        }
        assert!(serde_json::from_slice::<serde_json::Value>(&json(u64::MAX, 0)).is_ok());
    }

    #[test]
    fn events_are_as_the_generator_reads_them() {
        let mut text = BytesMut::new();
        event(&mut text, 7, 123, 0);
        assert_eq!(text, "id: 7\ndata: {\"seq\":7,\"sent_ns\":123}\n\n");
        text.clear();
        event(&mut text, 0, 1, 3);
        assert_eq!(text, "id: 0\ndata: {\"seq\":0,\"sent_ns\":1,\"pad\":\"ABC\"}\n\n");
    }
}
