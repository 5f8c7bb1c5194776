//! What was found, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// It is as it should be.
    Good,
    /// Worth knowing; nothing is to be done.
    Note,
    /// Calls may fail.
    Warning,
    /// Calls fail, or the installation does not work.
    Problem,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// How much it matters.
    pub(crate) level: Level,
    /// Its name, which scripts may match.
    pub(crate) name: String,
    /// What it is about, e.g. `Deployment krypton-gateway`.
    pub(crate) about: String,
    /// What is so, in a sentence.
    pub(crate) message: String,
    /// What to do about it, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) todo: Vec<String>,
}

// === impl Level ===

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Warning => "WARNING",
            Self::Problem => "PROBLEM",
        }
    }
}

// === impl Finding ===

impl Finding {
    /// One with nothing to do about it.
    pub(crate) fn new(
        level: Level,
        name: impl Into<String>,
        about: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self { level, name: name.into(), about: about.into(), message: message.into(), todo: Vec::new() }
    }

    /// The same, with one thing more to do.
    pub(crate) fn todo(mut self, line: impl Into<String>) -> Self {
        self.todo.push(line.into());
        self
    }
}

/// Whether something is to be done.
pub(crate) fn any_to_do(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level >= Level::Warning)
}

/// A line for each, and what to do about it below.
pub(crate) fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        writeln!(
            text,
            "{:<8} {}: {} ({})",
            finding.level.word(),
            finding.about,
            finding.message,
            finding.name
        )
        .expect("a string takes what is written");
        for (index, line) in finding.todo.iter().enumerate() {
            let mark = if index == 0 { "do:" } else { "" };
            writeln!(text, "         {mark:<4}{line}").expect("a string takes what is written");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_what_to_do() {
        let findings = [
            Finding::new(Level::Good, "Available", "Deployment krypton-gateway", "2 of 2 are available"),
            Finding::new(Level::Warning, "CutAt60s", "https://a", "a call is cut").todo("one").todo("two"),
        ];
        assert_eq!(
            text(&findings),
            "ok       Deployment krypton-gateway: 2 of 2 are available (Available)\n\
             WARNING  https://a: a call is cut (CutAt60s)\n\
             \x20        do: one\n\
             \x20            two\n"
        );
        assert!(any_to_do(&findings) && !any_to_do(&findings[..1]));
    }
}
