//! Where log lines go and what they look like: text for a terminal, JSON lines for machines, on stderr.

use std::io::{self, IsTerminal as _, Write as _};

use env_logger::fmt::Formatter;
use log::kv::{self, Key, VisitSource};
use log::{LevelFilter, Record};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::LogFormat;

/// What dependencies say below this is their own business.
const DEPENDENCIES: LevelFilter = LevelFilter::Warn;

/// Modules that log each failed try; the sources log each change of state instead, once.
const SILENCED: [&str; 2] = ["kube_client::client::builder", "kube_runtime::watcher"];

/// Sets the process's logger. `RUST_LOG` overrides `level` by module.
///
/// # Errors
/// When there is one already.
pub fn init(format: LogFormat, level: LevelFilter) -> Result<(), log::SetLoggerError> {
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level.min(DEPENDENCIES)).filter_module("krypton_controller", level);
    for module in SILENCED {
        builder.filter_module(module, LevelFilter::Off);
    }
    builder.parse_default_env();
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !io::stderr().is_terminal(),
    };
    if json {
        builder.format(write_json);
    } else {
        builder.format_timestamp_millis();
    }
    builder.try_init()
}

/// One line. The fixed fields come first and keep their names whatever the key-values are called.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'a str,
    target: &'a str,
    message: String,
    #[serde(flatten)]
    pairs: Map<String, Value>,
}

/// Collects key-values, numbers as numbers.
struct Pairs<'a>(&'a mut Map<String, Value>);

fn write_json(out: &mut Formatter, record: &Record<'_>) -> io::Result<()> {
    let mut pairs = Map::new();
    // A pair that cannot be read is left out rather than the line.
    record.key_values().visit(&mut Pairs(&mut pairs)).ok();
    pairs.retain(|key, _| !matches!(key.as_str(), "time" | "level" | "target" | "message"));
    let line = Line {
        time: out.timestamp_millis().to_string(),
        level: record.level().as_str(),
        target: record.target(),
        message: record.args().to_string(),
        pairs,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

// === impl Pairs ===

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
        let value = match (value.to_bool(), value.to_u64(), value.to_i64()) {
            (Some(value), ..) => json!(value),
            (_, Some(value), _) => json!(value),
            (_, _, Some(value)) => json!(value),
            _ => json!(value.to_string()),
        };
        self.0.insert(key.to_string(), value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use log::kv::Source as _;

    use super::*;

    #[test]
    fn pairs_keep_their_types() {
        let mut line = Map::new();
        let pairs = [
            ("count", kv::Value::from(3_u64)),
            ("up", kv::Value::from(true)),
            ("name", kv::Value::from("a\"b")),
        ];
        pairs.visit(&mut Pairs(&mut line)).unwrap();
        assert_eq!(json!(line), json!({ "count": 3, "up": true, "name": "a\"b" }));
    }
}
