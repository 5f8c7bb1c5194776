//! The process: arguments, logger, runtime, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use krypton_controller::args::Args;
use krypton_controller::{app, logging};

fn main() -> ExitCode {
    let args = Args::parse();
    let result = logging::init(args.log_format, args.log_level)
        .map_err(anyhow::Error::from)
        .and_then(|()| Ok(tokio::runtime::Runtime::new()?))
        .and_then(|runtime| {
            let result = runtime.block_on(app::run(args));
            runtime.shutdown_background();
            result
        });
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("krypton-controller: {error:#}");
    ExitCode::FAILURE
}
