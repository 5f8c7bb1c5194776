//! What the tour looks like: headings, lines, spoken words; colours and pauses only where a person reads along.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Stdout, Write as _};
use std::time::Duration;

/// Time to read what a step has shown.
const PAUSE: Duration = Duration::from_millis(1500);

/// The column that spoken words do not go beyond.
const WIDTH: usize = 78;

const INDENT: &str = "    ";

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    out: Stdout,
    colour: bool,
    paced: bool,
}

/// Words that come one by one, broken into lines.
#[derive(Debug, Default)]
struct Wrap {
    /// How far the line is; 0 before the first word.
    column: usize,
}

/// Words being spoken.
#[derive(Debug)]
pub(crate) struct Speech<'a> {
    screen: &'a Screen,
    wrap: Wrap,
}

#[derive(Debug, Clone, Copy)]
enum Style {
    Bold,
    Dim,
    Green,
    Red,
    Cyan,
}

// === impl Screen ===

impl Screen {
    /// `fast` forbids pauses.
    pub(crate) fn new(fast: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        // https://no-color.org: any value that is not empty.
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { out: io::stdout(), colour: terminal && !plain, paced: terminal && !fast }
    }

    pub(crate) fn title(&self, text: &str) -> io::Result<()> {
        self.line(format_args!("\n{}", self.paint(Style::Bold, text)))
    }

    pub(crate) fn heading(&self, number: usize, title: &str) -> io::Result<()> {
        let number = self.paint(Style::Cyan, format!("{number}."));
        self.line(format_args!("\n{number} {}", self.paint(Style::Bold, title)))
    }

    pub(crate) fn say(&self, text: impl Display) -> io::Result<()> {
        self.line(format_args!("{INDENT}{text}"))
    }

    /// What a person would type for the same.
    pub(crate) fn command(&self, command: impl Display) -> io::Result<()> {
        self.line(format_args!("{INDENT}{}", self.paint(Style::Dim, format!("$ {command}"))))
    }

    pub(crate) fn done(&self, text: impl Display) -> io::Result<()> {
        self.line(format_args!("  {} {text}", self.paint(Style::Green, "✓")))
    }

    pub(crate) fn failed(&self, text: impl Display) -> io::Result<()> {
        self.line(format_args!("  {} {text}", self.paint(Style::Red, "✗")))
    }

    /// Begins a speech.
    pub(crate) fn speech(&self) -> Speech<'_> {
        Speech { screen: self, wrap: Wrap::default() }
    }

    /// Gives time to read.
    pub(crate) async fn pause(&self) {
        if self.paced {
            tokio::time::sleep(PAUSE).await;
        }
    }

    // Not `println!`: that panics where the reader is gone.
    fn line(&self, text: impl Display) -> io::Result<()> {
        writeln!(&self.out, "{text}")
    }

    fn paint(&self, style: Style, text: impl Display) -> String {
        if !self.colour {
            return text.to_string();
        }
        // ECMA-48, Select Graphic Rendition.
        let code = match style {
            Style::Bold => 1,
            Style::Dim => 2,
            Style::Red => 31,
            Style::Green => 32,
            Style::Cyan => 36,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

// === impl Speech ===

impl Speech<'_> {
    /// Shows what was said, at once.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        let mut out = &self.screen.out;
        for word in text.split_whitespace() {
            write!(out, "{}{word}", self.wrap.before(word))?;
        }
        out.flush()
    }

    /// Ends the last line.
    pub(crate) fn end(self) -> io::Result<()> {
        self.screen.line("")
    }
}

// === impl Wrap ===

impl Wrap {
    /// What stands before the next word.
    fn before(&mut self, word: &str) -> String {
        let length = word.chars().count();
        let fits = self.column + 1 + length <= WIDTH;
        if self.column > 0 && fits {
            self.column += 1 + length;
            return " ".to_owned();
        }
        let newline = if self.column == 0 { "" } else { "\n" };
        self.column = INDENT.len() + length;
        format!("{newline}{INDENT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_broken_into_lines_that_fit() {
        let mut wrap = Wrap::default();
        let words = ["word"; 40].into_iter().chain(["aVeryLongWordThatHasNoPlaceToBreak"; 3]);
        let text: String = words.map(|word| wrap.before(word) + word).collect();
        assert!(text.lines().all(|line| line.starts_with(INDENT) && line.len() <= WIDTH), "{text}");
        assert!(text.lines().count() > 2 && text.lines().next().unwrap().len() > WIDTH - 5, "{text}");
    }

    #[test]
    fn colours_are_for_terminals() {
        let screen = |colour| Screen { out: io::stdout(), colour, paced: false };
        assert_eq!(screen(false).paint(Style::Green, "yes"), "yes");
        assert_eq!(screen(true).paint(Style::Green, "yes"), "\u{1b}[32myes\u{1b}[0m");
    }
}
