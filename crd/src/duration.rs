//! Durations as Go writes them, since that is how every Agent manifest writes them.
//!
//! Owns [`GoDuration`]: Go's `time.ParseDuration` grammar in, `Duration.String()` form out. Never panics, whatever the
//! text, and never yields a duration that is zero, negative or longer than Go can hold.
//!
//! `kube` has a duration of its own; it computes with floats and panics on numbers that a user can write.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration greater than zero and at most 2^63-1 nanoseconds (about 292 years), which is the most Go holds.
///
/// Fractions below a nanosecond are cut off exactly; Go computes them as floats and may differ by a nanosecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration(Duration);

/// Why a text is not a [`GoDuration`]. Texts are cut to their first characters, as a user may write any amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is empty.
    #[error("empty; write a number with a unit, e.g. \"300s\" or \"1h30m\"")]
    Empty,
    /// The text is not a sequence of numbers with units.
    #[error("{0:?} is not a duration; write numbers with units, e.g. \"300s\" or \"1h30m\"")]
    Malformed(String),
    /// A number stands without a unit.
    #[error("{0:?} lacks a unit; write e.g. \"300s\" or \"1h30m\"")]
    MissingUnit(String),
    /// A unit is none of Go's.
    #[error("{0:?} has the unknown unit {1:?}; units are ns, us, ms, s, m and h")]
    UnknownUnit(String, String),
    /// The duration does not fit into 2^63-1 nanoseconds.
    #[error("{0:?} is too long; the longest duration is 2562047h47m16.854775807s")]
    TooLong(String),
    /// The duration is zero or negative.
    #[error("{0:?} is not greater than zero")]
    NotPositive(String),
}

/// What a text must look like, for the schema: a sign, then numbers with units. Also lets zero and minus through, so
/// that the rule after it can say the true reason.
const PATTERN: &str = r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";

/// Longest text the schema takes. `2562047h47m16.854775807s`, the longest that is written without waste, has 24.
const MAX_LENGTH: usize = 64;

/// Nanoseconds that Go's signed 64 bits hold.
const MAX_NANOS: u128 = i64::MAX as u128;

/// How much of a refused text an error repeats, in characters.
const QUOTED: usize = 64;

const NANOS_PER_MICRO: u128 = 1_000;
const NANOS_PER_MILLI: u128 = 1_000_000;
const NANOS_PER_SECOND: u128 = 1_000_000_000;
const NANOS_PER_MINUTE: u128 = 60 * NANOS_PER_SECOND;
const NANOS_PER_HOUR: u128 = 60 * NANOS_PER_MINUTE;

// === impl GoDuration ===

impl GoDuration {
    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for GoDuration {
    type Err = DurationError;

    /// Reads Go's grammar: an optional sign, then `0` alone, or one or more decimal numbers, each with a fraction if
    /// it likes and each with a unit.
    fn from_str(text: &str) -> Result<Self, DurationError> {
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        let nanos = match unsigned {
            "" if text.is_empty() => return Err(DurationError::Empty),
            "" => return Err(DurationError::Malformed(quoted(text))),
            "0" => 0,
            _ => sum_of_terms(unsigned, text)?,
        };
        if nanos == 0 || text.starts_with('-') {
            return Err(DurationError::NotPositive(quoted(text)));
        }
        let nanos = u64::try_from(nanos).map_err(|_| DurationError::TooLong(quoted(text)))?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for GoDuration {
    /// Go's `Duration.String()`: `1h30m0s`, `5m0s`, `1.5s`, `300ms`, `10µs`, `7ns`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos < NANOS_PER_MICRO {
            return write!(f, "{nanos}ns");
        }
        if nanos < NANOS_PER_MILLI {
            return write_decimal(f, nanos, NANOS_PER_MICRO, "µs");
        }
        if nanos < NANOS_PER_SECOND {
            return write_decimal(f, nanos, NANOS_PER_MILLI, "ms");
        }
        if nanos >= NANOS_PER_HOUR {
            write!(f, "{}h", nanos / NANOS_PER_HOUR)?;
        }
        if nanos >= NANOS_PER_MINUTE {
            write!(f, "{}m", nanos % NANOS_PER_HOUR / NANOS_PER_MINUTE)?;
        }
        write_decimal(f, nanos % NANOS_PER_MINUTE, NANOS_PER_SECOND, "s")
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;

        impl Visitor<'_> for DurationVisitor {
            type Value = GoDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"300s\" or \"1h30m\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<GoDuration, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(DurationVisitor).map_err(D::Error::custom)
    }
}

impl JsonSchema for GoDuration {
    fn schema_name() -> Cow<'static, str> {
        "GoDuration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // A text that is no duration already fails the pattern; the rule then stays silent instead of adding an
        // evaluation error to it. A duration too long for `duration()` is such an error too, and the API server, which
        // lets a broken rule pass where the value did not change, does not let an error pass: so we say it ourselves.
        let rule = format!(
            "(oldSelf.hasValue() && oldSelf.value() == self) || !self.matches(r'{PATTERN}') \
             || duration(self) > duration('0s')"
        );
        json_schema!({
            "type": "string",
            "pattern": PATTERN,
            "maxLength": MAX_LENGTH,
            "x-kubernetes-validations": [{
                "rule": rule,
                "message": "must be greater than 0 and at most 2562047h",
                "optionalOldSelf": true,
            }],
        })
    }
}

// === parsing ===

/// The sum of `terms` in nanoseconds, at most [`MAX_NANOS`]; `text` is what the user wrote, for errors.
fn sum_of_terms(terms: &str, text: &str) -> Result<u128, DurationError> {
    let mut rest = terms;
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (whole, after) = take_while(rest, |c| c.is_ascii_digit());
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => take_while(after, |c| c.is_ascii_digit()),
            None => ("", after),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(DurationError::Malformed(quoted(text)));
        }
        let (unit, after) = take_while(after, |c| c != '.' && !c.is_ascii_digit());
        let unit = match nanos_of(unit) {
            Some(unit) => unit,
            None if unit.is_empty() => return Err(DurationError::MissingUnit(quoted(text))),
            None => return Err(DurationError::UnknownUnit(quoted(text), quoted(unit))),
        };
        total = term(whole, fraction, unit)
            .and_then(|nanos| total.checked_add(nanos))
            .filter(|total| *total <= MAX_NANOS)
            .ok_or_else(|| DurationError::TooLong(quoted(text)))?;
        rest = after;
    }
    Ok(total)
}

/// `whole.fraction` units of `unit` nanoseconds; `None` when it cannot be held.
fn term(whole: &str, fraction: &str, unit: u128) -> Option<u128> {
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    // Digits beyond the eighteenth are worth less than a nanosecond of an hour.
    let fraction = &fraction[..fraction.len().min(18)];
    let digits = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()? };
    let scale = (0..fraction.len()).fold(1_u128, |scale, _| scale * 10);
    u128::from(whole).checked_mul(unit)?.checked_add(u128::from(digits) * unit / scale)
}

/// Nanoseconds in one `unit`; both code points of the micro sign are in use.
fn nanos_of(unit: &str) -> Option<u128> {
    match unit {
        "ns" => Some(1),
        "us" | "\u{b5}s" | "\u{3bc}s" => Some(NANOS_PER_MICRO),
        "ms" => Some(NANOS_PER_MILLI),
        "s" => Some(NANOS_PER_SECOND),
        "m" => Some(NANOS_PER_MINUTE),
        "h" => Some(NANOS_PER_HOUR),
        _ => None,
    }
}

/// `text` cut in two where `wanted` first fails.
fn take_while(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !wanted(c)).unwrap_or(text.len()))
}

/// The start of `text`, for an error.
fn quoted(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

/// Writes `nanos` in units of `unit` nanoseconds, with the fraction that is there and no more.
fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: u128, unit: u128, suffix: &str) -> fmt::Result {
    write!(f, "{}", nanos / unit)?;
    let rest = nanos % unit;
    if rest > 0 {
        // `unit` is a power of ten, so its digits after the first say how wide the fraction is.
        let width = unit.ilog10() as usize;
        let digits = format!("{rest:0width$}");
        write!(f, ".{}", digits.trim_end_matches('0'))?;
    }
    f.write_str(suffix)
}

#[cfg(test)]
mod tests;
