//! Text of others, made fit for a status: one line, bounded, without characters that act on a terminal.

/// Longest message of a condition and longest note of an Event, in bytes. The API server refuses longer notes.
pub(super) const MAX_MESSAGE: usize = 1024;

/// Longest part of a message that was written by somebody else, in bytes: it must leave room for what to do.
pub(super) const MAX_QUOTE: usize = 400;

/// `text` on one line of at most `limit` bytes.
pub(super) fn one_line(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(text.len().min(limit));
    for word in text.split(|c: char| c.is_whitespace() || is_invisible(c)).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > limit {
            let room = limit.saturating_sub('…'.len_utf8());
            line.truncate(line.floor_char_boundary(room));
            line.push('…');
            break;
        }
    }
    line
}

/// A quotation inside a message: bounded, without the full stop that the message adds itself.
pub(super) fn quote(text: &str) -> String {
    one_line(text.trim().trim_end_matches('.'), MAX_QUOTE)
}

/// A quotation from the end of a log, where programs say why they end: its last lines that fit.
pub(super) fn quote_end(log: &str) -> String {
    let mut start = log.len();
    for line in log.split_inclusive('\n').rev() {
        if start < log.len() && log.len() - start + line.len() > MAX_QUOTE {
            break;
        }
        start -= line.len();
    }
    quote(&log[start..])
}

/// What stands in `text` between the first `before` and the `after` that follows it.
pub(super) fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inner, _)| inner)
}

/// `1 pod`, `2 pods`.
pub(super) fn pods(count: u32) -> String {
    if count == 1 { "1 pod".to_owned() } else { format!("{count} pods") }
}

/// Control characters, and those that turn the direction of what follows.
fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_becomes_one_visible_line() {
        assert_eq!(one_line(" a\n\tb\u{1b}[31m\r\n c\u{202e}d ", 100), "a b [31m c d");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let line = one_line(&"ä".repeat(1000), 100);
        assert!(line.len() <= 100 && line.ends_with('…'), "{line}");
        assert_eq!(one_line("exact", 5), "exact");
        assert_eq!(one_line("exactly", 5), "ex…");
    }

    #[test]
    fn of_a_log_the_end_is_quoted() {
        let log = format!("Traceback:\n{}KeyError: 'API_KEY'\n", "  File \"agent.py\", line 1\n".repeat(50));
        let quoted = quote_end(&log);
        assert!(quoted.ends_with("line 1 KeyError: 'API_KEY'") && !quoted.contains("Traceback"), "{quoted}");
        assert!(quoted.len() > MAX_QUOTE / 2);
        assert_eq!(quote_end("two\nlines.\n"), "two lines");
        assert_eq!(quote_end(""), "");
        assert!(quote_end(&format!("short\n{}", "x".repeat(1000))).starts_with("xxx"));
    }

    #[test]
    fn what_is_between_two_marks() {
        assert_eq!(between(r#"secret "x" not found"#, "secret \"", "\" not found"), Some("x"));
        assert_eq!(between("secret", "secret \"", "\""), None);
    }
}
