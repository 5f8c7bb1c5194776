//! `docs/reference/cli.md` says what the program does.

#[path = "../../docs/reference/check.rs"]
mod check;

use std::fmt::Write as _;

use check::check;
use clap::{Arg, Command, CommandFactory as _};
use krypton_cli::args::Cli;

#[test]
fn the_commands_are_those_of_the_program() {
    let mut root = Cli::command().disable_help_flag(true).disable_version_flag(true);
    root.build();
    let mut page = "### Every command\n\n".to_owned();
    page.push_str(&flags(root.get_arguments().filter(|arg| arg.is_global_set())));
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        write!(page, "\n### {}\n\n{}.\n\n", command.get_name(), about(command)).unwrap();
        let own: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_global_set()).collect();
        if !own.is_empty() {
            page.push_str(&flags(own.into_iter()));
        }
        if let Some(text) = command.get_after_help() {
            write!(page, "\n```text\n{}\n```\n", text.to_string().trim_end()).unwrap();
        }
    }
    check("cli.md", "commands", &page);
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

fn flags<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let mut table = "| flag | default | environment | meaning |\n|---|---|---|---|\n".to_owned();
    for arg in args.filter(|arg| !arg.is_hide_set() && arg.get_id() != "help") {
        let takes = arg.get_action().takes_values();
        let value = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        let value = value.filter(|_| takes).unwrap_or_default();
        let name = match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(long)) => format!("-{short}, --{long} {value}"),
            (None, Some(long)) => format!("--{long} {value}"),
            _ => value,
        };
        let default = match arg.get_default_values() {
            [value] if takes => code(&value.to_string_lossy()),
            _ => String::new(),
        };
        let environment = arg.get_env().map(|name| code(&name.to_string_lossy())).unwrap_or_default();
        let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let values = arg.get_possible_values();
        if takes && !values.is_empty() {
            let values: Vec<String> = values.iter().map(|value| code(value.get_name())).collect();
            write!(help, ". One of {}", values.join(", ")).expect("a string");
        }
        let help = help.replace('|', "\\|");
        writeln!(table, "| {} | {default} | {environment} | {help} |", code(name.trim())).expect("a string");
    }
    table
}

fn code(text: &str) -> String {
    format!("`{text}`")
}
