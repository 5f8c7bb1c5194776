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
    /// The line before ended with a carriage return: a line feed right behind it belongs to it.
    after_return: bool,
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
                self.end_of_line(&mut events);
                self.end_of_event(&mut events);
            }
        }
        events
    }

    fn end_of_line(&mut self, events: &mut Vec<String>) {
        let line = mem::take(&mut self.line);
        if line.is_empty() {
            self.end_of_event(events);
        } else if let Some(value) = line.strip_prefix(b"data") {
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
    fn an_endless_event_is_not_held() {
        let mut parser = Events::default();
        let events = parser.push(&[b"data: ".as_slice(), &vec![b'x'; 3 * MAX_EVENT]].concat());
        assert!(!events.is_empty());
        assert!(parser.line.len() <= MAX_EVENT + 1);
    }
}
