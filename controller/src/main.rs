//! The process: arguments, logger, runtime, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use krypton_controller::app;
use krypton_controller::args::Args;

fn main() -> ExitCode {
    let args = Args::parse();
    krypton_logging::init(&args.log, &app::QUIET);
    let result = tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| {
        let result = runtime.block_on(app::run(args));
        runtime.shutdown_background();
        result
    });
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("krypton-controller: {error:#}");
    ExitCode::FAILURE
}
