//! Figures as people read them.
//!
//! Owns how many digits are shown and which unit. Never rounds what is computed with.

use crate::report::table::Key;
use crate::result::Metric;
use crate::stats::Interval;

const KIB: f64 = 1024.0;

/// With as many digits as a measurement here can be trusted for, and at least all before the point.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "–".to_owned();
    }
    let text = match size {
        0.0 => "0".to_owned(),
        _ if size >= 99.95 => grouped(&format!("{value:.0}")),
        _ if size >= 9.995 => format!("{value:.1}"),
        _ if size >= 0.9995 => format!("{value:.2}"),
        _ if size >= 0.099_95 => format!("{value:.3}"),
        _ if size >= 0.009_995 => format!("{value:.4}"),
        _ if size >= 0.000_999_5 => format!("{value:.5}"),
        _ => format!("{value:.1e}"),
    };
    minus(&text)
}

/// A number that somebody chose and nobody measured: without the digits that say how exact it is.
pub(super) fn plain(value: f64) -> String {
    let text = number(value);
    if text.contains('.') && !text.contains('e') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// What the figures on an axis up to `most` are divided by, and the unit that they have then.
pub(super) fn unit(metric: Metric, most: f64) -> (f64, &'static str) {
    match metric {
        Metric::RssBytes | Metric::BytesPerConnection => match most {
            _ if most >= KIB.powi(3) => (KIB.powi(3), " GiB"),
            _ if most >= KIB.powi(2) => (KIB.powi(2), " MiB"),
            _ if most >= KIB => (KIB, " KiB"),
            _ => (1.0, " B"),
        },
        _ => (1.0, ""),
    }
}

/// A figure with the unit that [`head`] left out.
pub(super) fn figure(metric: Metric, value: f64) -> String {
    match metric {
        Metric::RssBytes | Metric::BytesPerConnection => bytes(value),
        _ => number(value),
    }
}

/// Of the machine, or of memory.
pub(super) fn bytes(value: f64) -> String {
    let (per, unit) = unit(Metric::RssBytes, value.abs());
    format!("{}{unit}", number(value / per))
}

/// The head of a column. Bytes carry their unit themselves.
pub(super) fn head(metric: Metric) -> &'static str {
    match metric {
        Metric::RssBytes => "resident memory",
        Metric::BytesPerConnection => "memory per connection",
        _ => metric.title(),
    }
}

/// ` (1.42–1.60)`; nothing where the ends are not apart.
pub(super) fn ends(low: &str, high: &str) -> String {
    if low == high { String::new() } else { format!(" ({})", range(low, high)) }
}

/// `1.42–1.60`; in words where a minus would look like another dash.
pub(super) fn range(low: &str, high: &str) -> String {
    let between = if low.starts_with('−') { " to " } else { "–" };
    format!("{low}{between}{high}")
}

/// `1.51× (1.42–1.60)`.
pub(super) fn times(ratio: Interval) -> String {
    format!("{}× ({})", number(ratio.mid), range(&number(ratio.low), &number(ratio.high)))
}

/// `+4.2 %`.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    let text = if value.abs() >= 99.95 { grouped(&format!("{value:.0}")) } else { format!("{value:.1}") };
    let sign = if value > 0.0 && text != "0.0" { "+" } else { "" };
    format!("{sign}{} %", minus(if text == "-0.0" { "0.0" } else { &text }))
}

/// `krypton · log off · 5,000`.
pub(super) fn name(key: &Key) -> String {
    let mut name = key.peer.to_owned();
    if !key.variant.is_empty() {
        name = format!("{name} · {}", key.variant);
    }
    match key.x {
        Some(x) => format!("{name} · {}", plain(x)),
        None => name,
    }
}

/// "1 round", "2 rounds".
pub(super) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn grouped(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |rest| ("-", rest));
    let mut text = sign.to_owned();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A minus as wide as a plus.
fn minus(text: &str) -> String {
    text.strip_prefix('-').map_or_else(|| text.to_owned(), |rest| format!("−{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_or_all_before_the_point() {
        let shown = [0.0, 0.0004, 0.004, 0.1234, 1.234, 9.999, 56.78, 99.96, 123.4, 14_912.3, -2_000_000.0]
            .map(number);
        let read =
            ["0", "4.0e-4", "0.00400", "0.123", "1.23", "10.0", "56.8", "100", "123", "14,912", "−2,000,000"];
        assert_eq!(shown, read);
        assert_eq!(number(f64::NAN), "–");
    }

    #[test]
    fn what_was_chosen_has_no_digits_too_many() {
        assert_eq!([5.0, 10.0, 0.95, 2.5, 0.0, 5_000.0].map(plain), ["5", "10", "0.95", "2.5", "0", "5,000"]);
    }

    #[test]
    fn bytes_have_a_unit() {
        assert_eq!(figure(Metric::BytesPerConnection, 25_190.4), "24.6 KiB");
        assert_eq!(
            [bytes(12.0), bytes(3.0 * KIB * KIB), bytes(23.0 * KIB.powi(3))],
            ["12.0 B", "3.00 MiB", "23.0 GiB"]
        );
    }

    #[test]
    fn changes_have_a_sign() {
        assert_eq!(
            [0.042, -0.1, 0.0, -0.000_1, 12.5].map(percent),
            ["+4.2 %", "−10.0 %", "0.0 %", "0.0 %", "+1,250 %"]
        );
    }
}
