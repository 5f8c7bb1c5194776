//! The command line.

use std::ffi::OsString;

/// Shows Krypton at work on this machine, without a cluster: starts the gateway, the controller and a few agents,
/// plays a guided tour through them, and stays up for you to try more.
///
/// The programs are expected next to this one: `make demo` builds and starts them all. Everything listens on
/// loopback, on free ports. Ctrl-C ends it; nothing is left running or on disk, except the logs of a tour that
/// failed.
#[derive(Debug, clap::Parser)]
#[command(name = "krypton-demo", version, max_term_width = 100)]
pub struct Args {
    /// Play on a Kubernetes node instead, with pods, rollouts and kubectl. The node is the testbed's, which has to run
    /// this: `make demo-cluster` does all of it
    #[arg(long)]
    pub cluster: bool,

    /// End after the tour instead of staying up. The exit code tells whether every step held
    #[arg(long)]
    pub once: bool,

    /// Play without pauses for reading, as it does where the output is not a terminal
    #[arg(long)]
    pub fast: bool,

    /// What the demo asks of itself; unset for people.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the demo asks of itself.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Become PROGRAM, and be killed when the process `parent` ends
    #[command(hide = true)]
    Leash {
        /// The process that asks.
        parent: i32,
        /// What to become, and its arguments.
        #[arg(last = true, required = true)]
        program: Vec<OsString>,
    },
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;

    #[test]
    fn the_help_shows_the_flags_and_not_what_the_demo_asks_of_itself() {
        Args::command().debug_assert();
        let help = Args::command().render_long_help().to_string();
        for flag in ["--once", "--fast", "--cluster"] {
            assert!(help.contains(flag), "{flag}: {help}");
        }
        assert!(!help.to_lowercase().contains("leash"), "{help}");
    }

    #[test]
    fn a_leashed_program_keeps_its_own_flags() {
        let args = Args::parse_from(["krypton-demo", "leash", "7", "--", "agent", "--once", "--", "x"]);
        let Some(Command::Leash { parent, program }) = args.command else { panic!("not a leash: {args:?}") };
        assert_eq!(parent, 7);
        assert_eq!(program, ["agent", "--once", "--", "x"]);
        assert!(!args.once);
    }
}
