//! Where log lines go and what they look like: on standard error, text for a terminal, JSON lines for machines.
//! Calls are not logged here but in the access log.

use std::io::{self, IsTerminal as _, Write as _};

use clap::{Args, ValueEnum};
use env_logger::fmt::Formatter;
use log::kv::{Error, Key, Value, VisitSource};
use log::{LevelFilter, Record};
use serde_json::{Map, json};

/// What dependencies say below this is their own business.
const DEPENDENCIES: LevelFilter = LevelFilter::Warn;

/// Pingora warns of what single clients and pods do; the access log and the metrics tell that, in bounds.
const PINGORA: LevelFilter = LevelFilter::Error;

/// What is logged, and how.
#[derive(Debug, Clone, Copy, Args)]
pub struct LogArgs {
    /// The form of the log: auto is text on a terminal and JSON lines otherwise
    #[arg(long, env = "KRYPTON_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,

    /// How much is logged: off, error, warn, info, debug or trace. RUST_LOG says it by module
    #[arg(long, env = "KRYPTON_LOG_LEVEL", value_name = "LEVEL", default_value_t = LevelFilter::Info)]
    pub log_level: LevelFilter,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
    /// Text on a terminal, JSON lines otherwise.
    Auto,
}

/// Puts key-values into a line, numbers as numbers.
struct Pairs<'a>(&'a mut Map<String, serde_json::Value>);

/// Sets the process's logger. `RUST_LOG` overrides the level by module. A logger that is there already stays.
pub fn init(args: &LogArgs) {
    let json = match args.log_format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    let mut builder = levels(args.log_level);
    builder.parse_default_env();
    if json {
        builder.format(write_json);
    } else {
        builder.format_timestamp_millis();
    }
    builder.try_init().ok();
}

fn levels(level: LevelFilter) -> env_logger::Builder {
    let mut builder = env_logger::Builder::new();
    builder
        .filter_level(level.min(DEPENDENCIES))
        .filter_module("pingora", level.min(PINGORA))
        .filter_module("krypton", level);
    builder
}

fn write_json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let line = json_line(&out.timestamp_millis().to_string(), record);
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

fn json_line(time: &str, record: &Record<'_>) -> Map<String, serde_json::Value> {
    let mut line = Map::new();
    // A pair that cannot be read is left out rather than the line. What is ours comes after, and wins.
    record.key_values().visit(&mut Pairs(&mut line)).ok();
    line.insert("time".to_owned(), json!(time));
    line.insert("level".to_owned(), json!(record.level().as_str()));
    line.insert("target".to_owned(), json!(record.target()));
    line.insert("message".to_owned(), json!(record.args().to_string()));
    line
}

// === impl Pairs ===

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let number = value.to_u64().map(Into::into).or_else(|| value.to_i64().map(Into::into));
        let value = match (value.to_bool(), number) {
            (Some(value), _) => json!(value),
            (None, Some(number)) => serde_json::Value::Number(number),
            (None, None) => json!(value.to_string()),
        };
        self.0.insert(key.to_string(), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use log::{Level, Metadata};

    use super::*;

    #[test]
    fn a_line_keeps_the_types_of_its_pairs() {
        let pairs: [(&str, Value<'_>); 5] = [
            ("count", Value::from(3_u64)),
            ("delta", Value::from(-1_i64)),
            ("up", Value::from(true)),
            ("path", Value::from("a\"\n\u{1b}")),
            ("message", Value::from("not this one")),
        ];
        let mut record = Record::builder();
        record.level(Level::Warn).target("krypton_gateway::x").key_values(&pairs);
        let line = json_line("now", &record.args(format_args!("Constant text")).build());
        let expected = json!({
            "time": "now", "level": "WARN", "target": "krypton_gateway::x", "message": "Constant text",
            "count": 3, "delta": -1, "up": true, "path": "a\"\n\u{1b}",
        });
        assert_eq!(json!(line), expected);
        assert!(
            !serde_json::to_string(&line).unwrap().contains(char::is_control),
            "one line, whatever it holds"
        );
    }

    #[test]
    fn dependencies_are_quieter_than_we_are() {
        let enabled = |level, target, at| {
            let metadata = Metadata::builder().target(target).level(at).build();
            log::Log::enabled(&levels(level).build(), &metadata)
        };
        assert!(enabled(LevelFilter::Info, "krypton_gateway::app", Level::Info));
        assert!(!enabled(LevelFilter::Info, "krypton_gateway::app", Level::Debug));
        assert!(enabled(LevelFilter::Trace, "krypton_gateway::app", Level::Trace));
        assert!(!enabled(LevelFilter::Trace, "h2::codec", Level::Info));
        assert!(enabled(LevelFilter::Info, "h2::codec", Level::Warn));
        assert!(!enabled(LevelFilter::Trace, "pingora_proxy", Level::Warn));
        assert!(enabled(LevelFilter::Info, "pingora_core::server", Level::Error));
        assert!(!enabled(LevelFilter::Off, "pingora_core::server", Level::Error));
    }
}
