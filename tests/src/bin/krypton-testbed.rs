//! Starts and ends a Kubernetes control plane for tests and for people; see `krypton-testbed --help`.

use std::process::ExitCode;

use clap::Parser;
use krypton_e2e::cli::{self, Cli};

// One thread: the kernel kills our children when the thread that started them ends, and the main thread ends last.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    cli::run(Cli::parse()).await
}
