//! The bench harness.

use std::process::ExitCode;

use clap::Parser as _;
use krypton_bench::app::{self, Args};

fn main() -> ExitCode {
    let Err(error) = app::main(Args::parse()) else { return ExitCode::SUCCESS };
    eprintln!("krypton-bench: {error:#}");
    ExitCode::FAILURE
}
