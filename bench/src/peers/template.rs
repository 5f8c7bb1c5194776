//! Configuration files as they are checked in, made into those that a program reads. Pure.
//!
//! A line that ends in `# only with NAME` or `# only without NAME` is there in one of two cases; `{{NAME}}` stands for a
//! value. Both must agree with what the caller knows: a name that nobody gave is an error, and one that the template
//! does not use as well. So all peers have the limits that are given to all of them.

use anyhow::{Context as _, bail};
use krypton_e2e::front::fill;

/// What begins the mark of a line.
const MARK: &str = "# only with";

/// The template with these switches and values.
///
/// # Errors
/// When the template and they do not agree.
pub(super) fn render(
    template: &str,
    switches: &[(&str, bool)],
    values: &[(&str, &str)],
) -> anyhow::Result<String> {
    let mut used = vec![false; switches.len()];
    let mut text = String::with_capacity(template.len());
    for line in template.lines() {
        let Some((rest, mark)) = line.split_once(MARK) else {
            text.push_str(line);
            text.push('\n');
            continue;
        };
        let (wanted, name) = match mark.strip_prefix("out ") {
            Some(name) => (false, name),
            None => (true, mark.trim_start()),
        };
        let index = switches.iter().position(|(known, _)| *known == name);
        let index = index.with_context(|| format!("nobody knows whether {name}: {line}"))?;
        used[index] = true;
        if switches[index].1 == wanted {
            text.push_str(rest.trim_end());
            text.push('\n');
        }
    }
    if let Some(unused) = used.iter().position(|used| !used) {
        bail!("the template does not depend on {}", switches[unused].0);
    }
    fill(&text, values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_there_or_not_and_values_filled_in() {
        let template = "a\nlog {{file}}; # only with log\noff # only without log\n  b\n";
        let values = [("file", "x")];
        assert_eq!(render(template, &[("log", true)], &values).unwrap(), "a\nlog x;\n  b\n");
        assert_eq!(render("a # only without log", &[("log", false)], &[]).unwrap(), "a\n");
        assert_eq!(render("a # only without log", &[("log", true)], &[]).unwrap(), "");
    }

    #[test]
    fn what_does_not_agree_is_an_error() {
        assert!(render("a # only with log", &[], &[]).is_err());
        assert!(render("a", &[("log", true)], &[]).is_err());
        assert!(render("a", &[], &[("x", "y")]).is_err());
        assert!(render("{{a}}", &[], &[]).is_err());
    }
}
