//! Picks the command and turns its end into an exit status.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;
use tokio::runtime::Builder;

use crate::args::{Cli, Command, CompleteWordsArgs};
use crate::{call, doctor, migrate, routes};

/// Something was found, or the command failed.
const FOUND: u8 = 1;

/// Ctrl-C, as shells have it: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

/// Runs the command of `cli`: 0 where all is well, 1 where not, 130 after Ctrl-C.
pub fn main(cli: Cli) -> ExitCode {
    match run(cli) {
        Ok(Some(true)) => ExitCode::SUCCESS,
        Ok(Some(false)) => ExitCode::from(FOUND),
        Ok(None) => ExitCode::from(INTERRUPTED),
        Err(error) if is_closed_pipe(&error) => ExitCode::from(FOUND),
        Err(error) => {
            eprintln!("kubectl krypton: {error:#}");
            ExitCode::from(FOUND)
        }
    }
}

/// Whether all is well; `None` after Ctrl-C.
fn run(cli: Cli) -> Result<Option<bool>> {
    let runtime = Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = command(cli) => result.map(Some),
            _ = tokio::signal::ctrl_c() => Ok(None),
        }
    });
    // A read of standard input that never ends is left behind.
    runtime.shutdown_background();
    result
}

async fn command(cli: Cli) -> Result<bool> {
    let global = cli.global;
    match cli.command {
        Command::Routes(args) => routes::run(&global, &args).await,
        Command::Call(args) => call::run(&global, args).await,
        Command::Doctor(args) => doctor::run(&global, &args).await,
        Command::Migrate(args) => migrate::run(&global, &args).await,
        Command::Completion(args) => {
            // Into memory: it panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "kubectl-krypton", &mut script);
            std::io::stdout().write_all(&script)?;
            Ok(true)
        }
        Command::CompleteWords(args) => {
            write!(std::io::stdout(), "{}", complete(&args))?;
            Ok(true)
        }
    }
}

/// What may stand for the last word, a line each, and what kubectl is to do with it: nothing more than that
/// (`ShellCompDirectiveNoFileComp`).
fn complete(args: &CompleteWordsArgs) -> String {
    let root = Cli::command();
    let (last, before) =
        args.words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let command = before.iter().find_map(|word| root.find_subcommand(word)).unwrap_or(&root);
    let names =
        command.get_subcommands().filter(|one| !one.is_hide_set()).map(|one| one.get_name().to_owned());
    let flags = [command, &root].into_iter().flat_map(clap::Command::get_arguments);
    let flags = flags.filter_map(|flag| Some(format!("--{}", flag.get_long()?)));
    let mut words: Vec<String> = if last.starts_with('-') { flags.collect() } else { names.collect() };
    words.retain(|word| word.starts_with(last));
    words.sort_unstable();
    words.dedup();
    words.push(":4".to_owned());
    words.join("\n") + "\n"
}

/// Whether whoever reads our output went away: no matter for an error message.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(words: &[&str]) -> String {
        complete(&CompleteWordsArgs { words: words.iter().map(|word| (*word).to_owned()).collect() })
    }

    #[test]
    fn commands_and_flags_are_completed() {
        assert_eq!(completed(&[""]), "call\ncompletion\ndoctor\nmigrate\nroutes\n:4\n");
        assert_eq!(completed(&["do"]), "doctor\n:4\n");
        assert_eq!(completed(&["doctor", "--si"]), "--silence\n:4\n");
        assert_eq!(completed(&["migrate", "--re"]), "--release\n:4\n");
        assert_eq!(completed(&["doctor", "x"]), ":4\n");
    }
}
