//! The gateway's program.

use std::process::ExitCode;

use clap::Parser as _;
use krypton_gateway::args::Args;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let Err(error) = krypton_gateway::app::main(Args::parse()) else { return ExitCode::SUCCESS };
    // One line with all causes, and no backtrace: this is for whoever set the flags.
    eprintln!("krypton-gateway: {error:#}");
    ExitCode::FAILURE
}
