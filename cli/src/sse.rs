//! Event streams, taken apart as they come in.
//!
//! Owns the line and event grammar of the HTML standard's server-sent events, as far as `data` goes. Bounded: an event
//! larger than [`MAX_EVENT`] is given out in pieces.

use std::mem;

/// Most bytes of one event that are held before it is given out.
const MAX_EVENT: usize = 1024 * 1024;

/// Events out of bytes.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    data: String,
    has_data: bool,
    /// The line is the rest of one of which a piece was given out.
    rest: Option<Rest>,
    /// The line before ended with a carriage return: a line feed right behind it belongs to it.
    after_return: bool,
}

/// What a line is the rest of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// The value of a data field.
    Data,
    /// Another field, or a comment.
    Other,
}

// === impl Events ===

impl Events {
    /// The data of every event that `bytes` complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        for &byte in bytes {
            let belongs_to_return = mem::take(&mut self.after_return) && byte == b'\n';
            match byte {
                b'\n' if belongs_to_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    self.end_of_line(&mut events);
                }
                _ => self.line.push(byte),
            }
            if self.line.len() + self.data.len() > MAX_EVENT {
                self.give_out(&mut events);
            }
        }
        events
    }

    /// What is held as a piece of the event, in the middle of a line maybe.
    fn give_out(&mut self, events: &mut Vec<String>) {
        let line_is_begun = !self.line.is_empty();
        // A character that the cut would part waits for its end.
        let whole = whole_characters(&self.line);
        let waiting = self.line.split_off(whole);
        let is_data = self.rest.map_or_else(|| is_data(&self.line), |rest| rest == Rest::Data);
        if line_is_begun {
            self.take_line();
            self.rest = Some(if is_data { Rest::Data } else { Rest::Other });
        }
        self.line = waiting;
        self.end_of_event(events);
    }

    fn end_of_line(&mut self, events: &mut Vec<String>) {
        // The empty rest of a line is not an empty line.
        if self.line.is_empty() && self.rest.is_none() {
            self.end_of_event(events);
        } else {
            self.take_line();
        }
    }

    fn take_line(&mut self) {
        let line = mem::take(&mut self.line);
        match self.rest.take() {
            Some(Rest::Data) => {
                self.has_data |= !line.is_empty();
                self.data.push_str(&String::from_utf8_lossy(&line));
                return;
            }
            Some(Rest::Other) => return,
            None => {}
        }
        if let Some(value) = line.strip_prefix(b"data") {
            let value = match value {
                [b':', b' ', value @ ..] | [b':', value @ ..] => value,
                [] => &[],
                // Another field, whose name only begins alike.
                _ => return,
            };
            if mem::replace(&mut self.has_data, true) {
                self.data.push('\n');
            }
            self.data.push_str(&String::from_utf8_lossy(value));
        }
    }

    fn end_of_event(&mut self, events: &mut Vec<String>) {
        if mem::take(&mut self.has_data) {
            events.push(mem::take(&mut self.data));
        }
    }
}

/// Whether `line` is, or begins, a data field with a value.
fn is_data(line: &[u8]) -> bool {
    line.strip_prefix(b"data").is_some_and(|value| matches!(value, [] | [b':', ..]))
}

/// Bytes of `line` without a character that is begun at its end.
fn whole_characters(line: &[u8]) -> usize {
    match std::str::from_utf8(line) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => line.len(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(parts: &[&str]) -> Vec<String> {
        let mut parser = Events::default();
        parts.iter().flat_map(|part| parser.push(part.as_bytes())).collect()
    }

    #[test]
    fn data_lines_of_an_event_are_joined() {
        assert_eq!(events(&["id: 1\ndata: a\ndata:b\ndata\n\n"]), ["a\nb\n"]);
        assert_eq!(events(&[": comment\n\nevent: x\n\ndatabase: y\n\n"]), Vec::<String>::new());
        assert_eq!(events(&["data: a\r\n\r\ndata: b\r\rdata: c\n"]), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_the_bytes_are_cut(cuts in prop::collection::vec(0_usize..40, 0..6)) {
            let text = "id: 1\r\ndata: one\r\n\r\n: ping\n\ndata: two\ndata: 2\n\n";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(events(&parts), ["one", "two\n2"]);
        }
    }

    #[test]
    fn an_event_larger_than_what_is_held_is_given_out_in_pieces() {
        let mut parser = Events::default();
        let value = "ü".repeat(3 * MAX_EVENT / 2);
        let mut events = Vec::new();
        for part in format!("data: {value}\n\ndata: next\n\n").as_bytes().chunks(4096) {
            events.extend(parser.push(part));
            assert!(parser.line.len() + parser.data.len() <= MAX_EVENT + 1);
        }
        assert_eq!(events.pop().as_deref(), Some("next"));
        assert!(events.len() > 1);
        assert!(events.concat() == value, "all of it, in order");
    }

    #[test]
    fn an_endless_comment_is_not_data() {
        let comment = format!(": {}data: x\ndata: y\n\n", "x".repeat(2 * MAX_EVENT));
        assert_eq!(events(&[&comment]), ["y"]);
    }
}
