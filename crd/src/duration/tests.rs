use super::*;
use proptest::prelude::*;

const HOUR: u64 = 3_600;

fn parse(text: &str) -> Result<Duration, DurationError> {
    text.parse::<GoDuration>().map(GoDuration::get)
}

#[test]
fn reads_what_go_reads() {
    for (text, nanos) in [
        ("5s", 5_000_000_000),
        ("+5s", 5_000_000_000),
        ("30m", 1_800_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1h2m3s4ms5us6ns", 3_723_004_005_006),
        ("39h9m14.425s", 140_954_425_000_000),
        ("1.5s", 1_500_000_000),
        ("1.s", 1_000_000_000),
        (".5s", 500_000_000),
        ("300ms", 300_000_000),
        ("12us", 12_000),
        ("12\u{b5}s", 12_000),
        ("12\u{3bc}s", 12_000),
        ("7ns", 7),
        ("1.9ns", 1),
        ("1s1s", 2_000_000_000),
        ("1m1h", 3_660_000_000_000),
        ("0s1ns", 1),
        ("0.3333333333333333333h", 1_199_999_999_999),
        ("0.9007199254740993h", 3_242_591_731_706),
        ("9223372036854775807ns", i64::MAX.unsigned_abs()),
        ("9223372036854775.807us", i64::MAX.unsigned_abs()),
        ("2562047h47m16.854775807s", i64::MAX.unsigned_abs()),
    ] {
        assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
    }
}

#[test]
fn refuses_what_is_no_duration() {
    let named = str::to_owned;
    assert_eq!(parse(""), Err(DurationError::Empty));
    for text in ["+", "-", ".", ".s", "+.s", "s", " 5s", "--5s", "1s.", "1s.s", "\0"] {
        assert_eq!(parse(text), Err(DurationError::Malformed(named(text))), "{text:?}");
    }
    for text in ["5", "1.5", "300", "1h30", "00"] {
        assert_eq!(parse(text), Err(DurationError::MissingUnit(named(text))), "{text:?}");
    }
    for (text, unit) in [
        ("5d", "d"),
        ("5S", "S"),
        ("5s ", "s "),
        ("5 s", " s"),
        ("1e3s", "e"),
        ("1h-1m", "h-"),
        ("1s-1s", "s-"),
    ] {
        assert_eq!(parse(text), Err(DurationError::UnknownUnit(named(text), named(unit))), "{text:?}");
    }
}

#[test]
fn refuses_what_is_not_positive() {
    for text in ["0", "+0", "-0", "0s", "0h0m", "0.0000000001ns", "-5s", "-1h30m"] {
        assert_eq!(parse(text), Err(DurationError::NotPositive(text.to_owned())), "{text}");
    }
}

#[test]
fn refuses_what_go_cannot_hold() {
    for text in [
        "9223372036854775808ns",
        "-9223372036854775809ns",
        "2562047h47m16.854775808s",
        "2562048h",
        "9223372036854775807ns1ns",
        "99999999999999999999h",
        "99999999999999999999999999999999999999999999s",
    ] {
        assert_eq!(parse(text), Err(DurationError::TooLong(text.to_owned())), "{text}");
    }
}

#[test]
fn writes_what_go_writes() {
    for (nanos, text) in [
        (1, "1ns"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (3_300_000_000, "3.3s"),
        (300_000_000_000, "5m0s"),
        (245_000_000_000, "4m5s"),
        (245_001_000_000, "4m5.001s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (480_000_000_001, "8m0.000000001s"),
        (HOUR * 1_000_000_000, "1h0m0s"),
        (i64::MAX.unsigned_abs(), "2562047h47m16.854775807s"),
    ] {
        assert_eq!(GoDuration(Duration::from_nanos(nanos)).to_string(), text);
    }
}

#[test]
fn an_error_repeats_only_the_start_of_a_long_text() {
    let text = "9".repeat(1_000_000);
    assert_eq!(parse(&text), Err(DurationError::MissingUnit("9".repeat(QUOTED))));
}

#[test]
fn decodes_from_a_string_only() {
    let decode = serde_json::from_value::<GoDuration>;
    assert_eq!(decode("1m".into()).unwrap().get(), Duration::from_mins(1));
    assert_eq!(
        decode(60.into()).unwrap_err().to_string(),
        "invalid type: integer `60`, expected a duration such as \"300s\" or \"1h30m\""
    );
    assert_eq!(
        decode("soon".into()).unwrap_err().to_string(),
        DurationError::Malformed("soon".into()).to_string()
    );
}

/// One number with its unit, and what it is worth in nanoseconds.
fn term_and_worth() -> impl Strategy<Value = (String, u128)> {
    let unit = prop_oneof![
        Just(("ns", 1_u128)),
        Just(("us", 1_000)),
        Just(("µs", 1_000)),
        Just(("μs", 1_000)),
        Just(("ms", 1_000_000)),
        Just(("s", 1_000_000_000)),
        Just(("m", 60_000_000_000)),
        Just(("h", 3_600_000_000_000)),
    ];
    (any::<u32>(), proptest::option::of((0..=9_u8, 0..1_000_u32)), unit).prop_map(
        |(whole, fraction, (unit, nanos))| {
            let worth = u128::from(whole) * nanos;
            match fraction {
                None => (format!("{whole}{unit}"), worth),
                Some((tenths, rest)) => {
                    let digits = u128::from(tenths) * 1_000 + u128::from(rest);
                    (format!("{whole}.{tenths}{rest:03}{unit}"), worth + digits * nanos / 10_000)
                }
            }
        },
    )
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        parse(&text).ok();
    }

    #[test]
    fn no_text_that_looks_like_a_duration_makes_it_panic(text in "[-+]?([0-9]{0,40}[.]?[0-9]{0,40}(ns|us|µs|ms|s|m|h|d)?){0,6}") {
        if let Ok(duration) = parse(&text) {
            prop_assert!(!duration.is_zero() && duration.as_nanos() <= MAX_NANOS);
        }
    }

    #[test]
    fn the_schema_takes_no_text_for_another_reason(text in PATTERN.trim_matches(['^', '$'])) {
        let outcome = parse(&text);
        prop_assert!(
            matches!(outcome, Ok(_) | Err(DurationError::TooLong(_) | DurationError::NotPositive(_))),
            "{}: {:?}", text, outcome
        );
    }

    #[test]
    fn terms_add_up(terms in proptest::collection::vec(term_and_worth(), 1..4)) {
        let text: String = terms.iter().map(|(text, _)| text.as_str()).collect();
        let worth: u128 = terms.iter().map(|(_, worth)| worth).sum();
        match parse(&text) {
            Ok(duration) => prop_assert_eq!(duration.as_nanos(), worth),
            Err(DurationError::TooLong(_)) => prop_assert!(worth > MAX_NANOS),
            Err(DurationError::NotPositive(_)) => prop_assert_eq!(worth, 0),
            Err(error) => prop_assert!(false, "{}: {}", text, error),
        }
    }

    #[test]
    fn what_is_written_is_read_back(nanos in 1..=i64::MAX.unsigned_abs()) {
        let duration = GoDuration(Duration::from_nanos(nanos));
        prop_assert_eq!(duration.to_string().parse(), Ok(duration));
    }
}
