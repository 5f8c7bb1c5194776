//! `krypton-example-agent`: see the library and the README beside it.

use std::process::ExitCode;

use clap::Parser;
use krypton_example_agent::Args;

#[tokio::main]
async fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info,rmcp=warn")).init();
    let Err(error) = krypton_example_agent::run(Args::parse()).await else { return ExitCode::SUCCESS };
    // One line with all causes, and no backtrace: this is for whoever set the flags.
    eprintln!("krypton-example-agent: {error:#}");
    ExitCode::FAILURE
}
