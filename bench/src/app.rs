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
