//! Where log lines go and what they look like: on standard error, text for a terminal, JSON lines for machines.
//!
//! Owns: the flags about the log, the process's logger, the form of a line. Never knows what is logged: each
//! program names the modules of its dependencies that talk too much.

mod line;

use std::io::{self, IsTerminal as _, Write as _};

use clap::{Args, ValueEnum};
use env_logger::fmt::Formatter;
use log::{LevelFilter, Record};

use line::Line;

/// What dependencies say below this is their own business.
const DEPENDENCIES: LevelFilter = LevelFilter::Warn;

/// Every module of ours begins with this.
const OURS: &str = "krypton";

/// What is logged, and how.
#[derive(Debug, Clone, Copy, Args)]
pub struct LogArgs {
    /// The form of the log: auto is text on a terminal and JSON lines otherwise
    #[arg(long, env = "KRYPTON_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// How much is logged: off, error, warn, info, debug or trace. RUST_LOG says it by module
    #[arg(long, env = "KRYPTON_LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = level)]
    pub log_level: LevelFilter,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON lines otherwise.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A module of a dependency, with all that begin like it, and the most that is heard of them.
pub type Quiet = (&'static str, LevelFilter);

fn level(text: &str) -> Result<LevelFilter, &'static str> {
    text.parse().map_err(|_| "expected off, error, warn, info, debug or trace")
}

/// Sets the process's logger. `RUST_LOG` overrides `args` and `quiet` by module. A logger that is there already
/// stays.
pub fn init(args: &LogArgs, quiet: &[Quiet]) {
    let json = match args.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let mut builder = levels(args.log_level, quiet);
    builder.parse_default_env();
    if json {
        builder.format(write_json);
    } else {
        builder.format_timestamp_millis();
    }
    builder.try_init().ok();
}

fn levels(level: LevelFilter, quiet: &[Quiet]) -> env_logger::Builder {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level.min(DEPENDENCIES)).filter_module(OURS, level);
    for &(module, most) in quiet {
        builder.filter_module(module, level.min(most));
    }
    builder
}

fn write_json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let line = Line { time: out.timestamp_millis(), record };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use log::{Level, Log as _, Metadata};

    use super::*;

    #[test]
    fn dependencies_are_quieter_than_we_are() {
        let enabled = |level, target, at| {
            let quiet = [("pingora", LevelFilter::Error), ("kube_runtime::watcher", LevelFilter::Off)];
            let metadata = Metadata::builder().target(target).level(at).build();
            levels(level, &quiet).build().enabled(&metadata)
        };
        assert!(enabled(LevelFilter::Info, "krypton_gateway::app", Level::Info));
        assert!(!enabled(LevelFilter::Info, "krypton_gateway::app", Level::Debug));
        assert!(enabled(LevelFilter::Trace, "krypton_controller::app", Level::Trace));
        assert!(!enabled(LevelFilter::Trace, "h2::codec", Level::Info));
        assert!(enabled(LevelFilter::Info, "h2::codec", Level::Warn));
        assert!(!enabled(LevelFilter::Trace, "pingora_proxy", Level::Warn));
        assert!(enabled(LevelFilter::Info, "pingora_core::server", Level::Error));
        assert!(!enabled(LevelFilter::Off, "pingora_core::server", Level::Error));
        assert!(!enabled(LevelFilter::Trace, "kube_runtime::watcher", Level::Error));
        assert!(enabled(LevelFilter::Trace, "kube_runtime::controller", Level::Warn));
    }
}
