//! Quantities as Kubernetes writes them: `500m`, `1.5`, `2Gi`, `1e3`.
//!
//! Owns only what a check needs: whether a text is one, and which of two is more. The text goes to Kubernetes as it is.

/// Parts of one.
const NANO: i128 = 1_000_000_000;

/// The largest quantity: Kubernetes cuts values off at 2^63-1.
const MOST: i128 = i64::MAX as i128 * NANO;

/// Digits of a number that are looked at; the largest has 19.
const DIGITS: usize = 24;

/// A quantity in billionths, rounded up as Kubernetes does; what is too large for it is the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Quantity(i128);

// === impl Quantity ===

impl Quantity {
    /// Reads `text`: a sign, a decimal number, and a unit or an exponent.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (sign, unsigned) = match text.as_bytes().first()? {
            b'-' => (-1, &text[1..]),
            b'+' => (1, &text[1..]),
            _ => (1, text),
        };
        let (whole, rest) = digits(unsigned);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => digits(rest),
            None => ("", rest),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let most = whole.len() > DIGITS;
        let fraction = &fraction[..fraction.len().min(DIGITS - 6)];
        let (numerator, denominator) = unit(suffix)?;
        let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        let value = if most { None } else { number(whole)?.checked_mul(scale) }
            .and_then(|value| value.checked_add(number(fraction)?))
            .and_then(|value| value.checked_mul(numerator))
            .map_or(MOST, |value| ceil(value, scale.saturating_mul(denominator)).min(MOST));
        Some(Self(value * sign))
    }

    /// Whether it is below zero.
    pub(super) const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Whether it counts whole things.
    pub(super) const fn is_whole(self) -> bool {
        self.0 % NANO == 0
    }
}

/// What `suffix` multiplies by, in billionths: a numerator and a denominator.
fn unit(suffix: &str) -> Option<(i128, i128)> {
    let power =
        |base: i128, exponent: u32| base.checked_pow(exponent)?.checked_mul(NANO).map(|unit| (unit, 1));
    match suffix {
        "n" => Some((1, 1)),
        "u" => Some((1_000, 1)),
        "m" => Some((1_000_000, 1)),
        "" => Some((NANO, 1)),
        "k" => power(10, 3),
        "M" => power(10, 6),
        "G" => power(10, 9),
        "T" => power(10, 12),
        "P" => power(10, 15),
        "E" => power(10, 18),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => exponent(suffix.strip_prefix(['e', 'E'])?),
    }
}

/// `+3`, `3` or `-3` after an e.
fn exponent(text: &str) -> Option<(i128, i128)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // What is beyond these is the largest or the smallest value anyhow.
    let exponent = unsigned.trim_start_matches('0').parse::<u32>().map_or(27, |exponent| exponent.min(27));
    let exponent = if unsigned.bytes().all(|b| b == b'0') { 0 } else { exponent };
    let power = 10_i128.pow(exponent);
    if text.starts_with('-') { Some((NANO, power)) } else { Some((power.saturating_mul(NANO), 1)) }
}

fn ceil(value: i128, divisor: i128) -> i128 {
    value / divisor + i128::from(value % divisor != 0)
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_unit_of_kubernetes_is_read() {
        let value = |text| Quantity::parse(text).expect(text).0;
        for (text, billionths) in [
            ("1", NANO),
            ("0", 0),
            ("-0", 0),
            ("+1", NANO),
            ("1.5", 1_500_000_000),
            (".5", 500_000_000),
            ("5.", 5 * NANO),
            ("100m", 100_000_000),
            ("7n", 7),
            ("7u", 7_000),
            ("1k", 1_000 * NANO),
            ("1Ki", 1_024 * NANO),
            ("1.5Gi", 1_610_612_736 * NANO),
            ("2E", 2_000_000_000_000_000_000 * NANO),
            ("1e3", 1_000 * NANO),
            ("1E3", 1_000 * NANO),
            ("1e-3", 1_000_000),
            ("1e0", NANO),
            ("0.0000000001", 1),
            ("1e-99999999999", 1),
            ("-1", -NANO),
            ("00001", NANO),
        ] {
            assert_eq!(value(text), billionths, "{text}");
        }
        for text in ["1e99", "9223372036854775807", &"9".repeat(400), "999999999999999999999999Ei"] {
            assert_eq!(value(text), MOST, "{text}");
        }
    }

    #[test]
    fn what_kubernetes_does_not_read_is_none() {
        for text in [
            "", "a lot", "1 Gi", "1gb", "1GB", "1K", "1mi", "Gi", ".", "-", "--1", "1e", "1e+", "1e1.5",
            "1,5",
        ] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_and_order_is_that_of_numbers(text in ".*", a in 0_u32.., b in 0_u32..) {
            Quantity::parse(&text);
            let quantity = |n: u32| Quantity::parse(&format!("{n}m")).unwrap();
            prop_assert_eq!(quantity(a) < quantity(b), a < b);
        }

        #[test]
        fn long_numbers_do_not_make_it_panic(text in "[-+]?[0-9]{0,40}(\\.[0-9]{0,40})?([kMGTPE]i?|[eE][-+]?[0-9]{1,12})?") {
            Quantity::parse(&text);
        }
    }
}
