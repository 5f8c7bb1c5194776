//! The program `kubectl-krypton`.

use std::process::ExitCode;

use clap::Parser as _;
use krypton_cli::args::Cli;

fn main() -> ExitCode {
    krypton_cli::app::main(Cli::parse())
}
