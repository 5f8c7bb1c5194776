//! The process: arguments, logger, runtime, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use krypton_controller::app;
use krypton_controller::args::Args;
use log::LevelFilter;

/// They log each failed try; the sources log each change of state instead, once.
const QUIET: [krypton_logging::Quiet; 2] =
    [("kube_client::client::builder", LevelFilter::Off), ("kube_runtime::watcher", LevelFilter::Off)];

fn main() -> ExitCode {
    let args = Args::parse();
    krypton_logging::init(&args.log, &QUIET);
    let result = tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(app::run(args));
        runtime.shutdown_background();
        result
    });
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("krypton-controller: {error:#}");
    ExitCode::FAILURE
}
