//! What a program says of itself, as tables: its flags and its metrics.

use std::fmt::Write as _;

use clap::{Arg, Command};

/// Every flag of `command`, in the order of `--help`.
pub(crate) fn flags(command: &Command) -> String {
    let mut table = "| flag | default | environment | meaning |\n|---|---|---|---|\n".to_owned();
    for arg in command.get_arguments() {
        let flag = match arg.get_value_names() {
            Some([value]) if arg.get_action().takes_values() => format!("--{} {value}", long(arg)),
            _ => format!("--{}", long(arg)),
        };
        let environment = arg.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default();
        let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let values = arg.get_possible_values();
        if arg.get_action().takes_values() && !values.is_empty() {
            let values = values.iter().map(|value| code(value.get_name())).collect::<Vec<_>>();
            write!(help, ". One of {}", values.join(", ")).expect("a string");
        }
        let default = default(arg).map(|value| code(&value)).unwrap_or_default();
        writeln!(table, "| {} | {default} | {environment} | {} |", code(&flag), cell(&help))
            .expect("a string");
    }
    table
}

/// Every metric in `exposition` (OpenMetrics text), in its order, with the labels of its first sample.
pub(crate) fn metrics(exposition: &str) -> String {
    let mut table = "| metric | type | labels | meaning |\n|---|---|---|---|\n".to_owned();
    let about = |name: &str| {
        let prefix = format!("# HELP {name} ");
        exposition.lines().find_map(|line| line.strip_prefix(&prefix)).expect("a metric has a help text")
    };
    for line in exposition.lines() {
        let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) else {
            continue;
        };
        let suffix = if kind == "counter" { "_total" } else { "" };
        let meaning = cell(about(name).trim_end_matches('.'));
        writeln!(table, "| `{name}{suffix}` | {kind} | {} | {meaning} |", labels(exposition, name))
            .expect("a string");
    }
    table
}

fn long(arg: &Arg) -> &str {
    arg.get_long().expect("flags only")
}

fn default(arg: &Arg) -> Option<String> {
    let [value] = arg.get_default_values() else { return None };
    // A switch has the default that it is not given.
    arg.get_action().takes_values().then(|| value.to_string_lossy().into_owned())
}

/// Names of the labels of the metric's first sample, but for those of a histogram's buckets.
fn labels(exposition: &str, metric: &str) -> String {
    let sample = exposition.lines().find(|line| line.starts_with(metric)).unwrap_or_default();
    let inside = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}')).unwrap_or_default().0;
    let names = inside.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name);
    names.filter(|name| *name != "le").map(code).collect::<Vec<_>>().join(", ")
}

fn code(text: &str) -> String {
    format!("`{}`", cell(text))
}

/// `text` as it may stand between two bars.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
