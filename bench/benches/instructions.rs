//! How many instructions single steps take. The figures are the same on a busy machine and on an idle one, so a
//! percent more or less is seen; they say nothing of what memory or the kernel cost.
//!
//! The same steps as in `gateway.rs`, once each. Where valgrind or the runner of gungraun is missing, it says so and
//! ends well: this is a help, never a gate.

#[path = "parts/calls.rs"]
mod calls;
#[path = "parts/counted.rs"]
mod counted;

use std::process::{Command, Stdio};

/// What gungraun starts its own copies of this program with.
const OF_THE_RUNNER: &str = "--gungraun-run";

fn main() {
    if std::env::args().nth(1).is_none_or(|first| first != OF_THE_RUNNER) {
        for (program, how) in [
            ("valgrind", "`apt-get install valgrind`, or your system's like"),
            (
                "gungraun-runner",
                "`cargo install --locked gungraun-runner`, in the version that Cargo.lock has of gungraun",
            ),
        ] {
            if !runs(program) {
                eprintln!("instructions: not counted, there is no {program}: {how}");
                return;
            }
        }
    }
    counted::run();
}

fn runs(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
