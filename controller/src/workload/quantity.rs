//! Kubernetes quantities by value: `1000m` is `1`, `0.5Gi` is `512Mi`.
//!
//! The API server writes a quantity its own way, so a comparison of texts would find a difference for ever.

/// The value of a quantity in billionths of its unit, which is as fine as Kubernetes keeps it; what is finer is
/// rounded up as there. `None` when `text` is no quantity, or one too large for the API server to keep.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let number_end = unsigned.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || fraction.contains('.') {
        return None;
    }
    let (power_of_two, power_of_ten) = powers(suffix)?;
    let mantissa = digits.parse::<i128>().ok()?.checked_mul(1_i128.checked_shl(power_of_two)?)?;
    let exponent = power_of_ten.checked_add(9)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let scale = 10_i128.checked_pow(exponent.unsigned_abs());
    let nanos = match scale {
        _ if mantissa == 0 => 0,
        Some(scale) if exponent >= 0 => mantissa.checked_mul(scale)?,
        Some(scale) => mantissa / scale + i128::from(mantissa % scale > 0),
        None if exponent < 0 => 1,
        None => return None,
    };
    Some(if negative { -nanos } else { nanos })
}

/// The powers of 2 and of 10 that a suffix stands for.
fn powers(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        _ => (0, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_that_are_worth_the_same_are_equal() {
        for (one, other) in [
            ("1", "1000m"),
            ("0.5Gi", "512Mi"),
            ("1.5", "1500m"),
            ("1e3", "1k"),
            ("1E3", "1000"),
            ("1E", "1000P"),
            ("100u", "0.1m"),
            (".5", "500m"),
            ("1.", "1"),
            ("+1", "1"),
            ("-1", "-1000m"),
            ("0.1n", "1n"),
            ("0", "0Gi"),
            ("1e-40", "1n"),
        ] {
            assert_eq!(nanos(one), nanos(other), "{one} {other}");
            assert!(nanos(one).is_some(), "{one}");
        }
    }

    #[test]
    fn others_differ_or_are_none() {
        assert_ne!(nanos("1Gi"), nanos("1G"));
        assert_ne!(nanos("1"), nanos("1m"));
        for text in [
            "",
            ".",
            "Gi",
            "1 Gi",
            "1gi",
            "1.2.3",
            "1ee3",
            "one",
            "1e",
            "--1",
            "1e999999999999",
            "1e2000000000",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange(text in "[-+.0-9a-zA-Z]{0,60}") {
            let _value = nanos(&text);
        }

        #[test]
        fn a_number_keeps_its_value(number in any::<i64>()) {
            prop_assert_eq!(nanos(&number.to_string()), Some(i128::from(number) * 1_000_000_000));
        }
    }
}
