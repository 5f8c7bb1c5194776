//! `krypton-demo`: see the library.

use std::process::ExitCode;

use clap::Parser as _;
use krypton_demo::args::{Args, Command};
use krypton_demo::{app, leash};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        Some(Command::Leash { parent, program }) => leash::exec(*parent, program),
        None => app::run(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("krypton-demo: {error:#}");
        ExitCode::FAILURE
    })
}
