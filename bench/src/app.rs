//! The command line.

use clap::{Parser, Subcommand};

/// Measures Krypton's gateway beside its peers, on this machine
#[derive(Debug, Parser)]
#[command(name = "krypton-bench", version, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure: all scenarios, or those that are named
    Run(crate::scenario::Args),
    /// Put load on a URL, and print what came back
    Load(crate::load::Args),
    /// Be an agent that answers at once, for load to go to
    Origin(crate::origin::Args),
    /// Make the page and the summary of a run anew
    Report(crate::report::Args),
    /// Compare two runs: what changed, and whether it is beyond the noise
    Compare(crate::report::CompareArgs),
}

/// Does what `args` say.
///
/// # Errors
/// What went wrong, for the person in front of it.
pub fn main(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Run(args) => crate::scenario::main(&args),
        Command::Load(args) => crate::load::main(&args),
        Command::Origin(args) => crate::origin::main(&args),
        Command::Report(args) => crate::report::main(&args),
        Command::Compare(args) => crate::report::compare_main(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flag_that_is_given_twice_the_last_counts() {
        let line =
            ["krypton-bench", "run", "--out", "first", "--rounds", "3", "--out", "second", "--rounds", "4"];
        let Command::Run(args) = Args::try_parse_from(line).unwrap().command else { panic!("not a run") };
        let said = format!("{args:?}");
        assert!(said.contains("second") && said.contains("rounds: 4") && !said.contains("first"), "{said}");
    }
}
