//! One record as one JSON object: time, level, target and message first, then the pairs as they were given.

use std::fmt::Display;

use log::Record;
use log::kv::{Error, Key, Value, VisitSource};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// Names that a pair cannot take.
const FIXED: [&str; 4] = ["time", "level", "target", "message"];

/// One line, without its end.
pub(crate) struct Line<'a, T> {
    pub(crate) time: T,
    pub(crate) record: &'a Record<'a>,
}

/// Writes pairs into an object, numbers as numbers.
struct Pairs<M: SerializeMap> {
    map: M,
    /// What the writing ended with, since a visitor can only return an error of its own.
    result: Result<(), M::Error>,
}

// === impl Line ===

impl<T: Display> Serialize for Line<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", &format_args!("{}", self.time))?;
        map.serialize_entry("level", self.record.level().as_str())?;
        map.serialize_entry("target", self.record.target())?;
        map.serialize_entry("message", self.record.args())?;
        let mut pairs = Pairs { map, result: Ok(()) };
        // A pair that cannot be read is left out rather than the line.
        self.record.key_values().visit(&mut pairs).ok();
        pairs.result.and_then(|()| pairs.map.end())
    }
}

// === impl Pairs ===

impl<'kvs, M: SerializeMap> VisitSource<'kvs> for Pairs<M> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let key = key.as_str();
        if FIXED.contains(&key) || self.result.is_err() {
            return Ok(());
        }
        self.result = if let Some(value) = value.to_bool() {
            self.map.serialize_entry(key, &value)
        } else if let Some(value) = value.to_u64() {
            self.map.serialize_entry(key, &value)
        } else if let Some(value) = value.to_i64() {
            self.map.serialize_entry(key, &value)
        } else if let Some(value) = value.to_f64() {
            self.map.serialize_entry(key, &value)
        } else {
            self.map.serialize_entry(key, &format_args!("{value}"))
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    #[test]
    fn a_line_keeps_the_order_and_the_types_of_its_pairs() {
        let pairs: [(&str, Value<'_>); 6] = [
            ("up", Value::from(true)),
            ("delta", Value::from(-1_i64)),
            ("count", Value::from(3_u64)),
            ("took", Value::from(0.5)),
            ("path", Value::from("a\"\n\u{1b}")),
            ("message", Value::from("not this one")),
        ];
        let mut record = Record::builder();
        record.level(Level::Warn).target("krypton_gateway::x").key_values(&pairs);
        let record = record.args(format_args!("Constant text")).build();
        let line = serde_json::to_string(&Line { time: "now", record: &record }).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"time":"now","level":"WARN","target":"krypton_gateway::x","message":"Constant text","#,
                r#""up":true,"delta":-1,"count":3,"took":0.5,"path":"a\"\n\u001b"}"#
            ),
        );
        assert!(!line.contains(char::is_control), "one line, whatever it holds");
    }
}
