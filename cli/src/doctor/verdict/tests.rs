use proptest::prelude::*;

use super::*;

const INTERVAL: Duration = Duration::from_millis(300);

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn seen(events: &[(u64, u64)], end: End, ended: u64) -> Seen {
    let events =
        events.iter().map(|(sent, arrived)| Event { sent: millis(*sent), arrived: millis(*arrived) });
    Seen { events: events.collect(), end, ended: millis(ended) }
}

/// Of one stream, as if the other came as it was sent.
fn pace_of_events(events: &Seen) -> Verdict {
    pace(events, &seen(&[(0, 10), (300, 310)], End::Whole, 310), INTERVAL)
}

#[test]
fn events_that_come_as_they_are_sent_are_streaming() {
    let stream = seen(&[(5_000, 40), (5_300, 360), (5_600, 640)], End::Whole, 640);
    assert_eq!(pace(&stream, &stream, INTERVAL), Verdict::Streaming);
}

#[test]
fn what_comes_together_is_buffered_and_told_by_its_format() {
    let steady = seen(&[(0, 10), (300, 310)], End::Whole, 310);
    let heap = seen(&[(0, 2_700), (900, 2_700), (1_800, 2_700), (2_700, 2_700)], End::Whole, 2_700);
    let nothing = seen(&[], End::Cut, 3_000);
    let buffered = |held, what| Verdict::Buffered { held: millis(held), what };
    assert_eq!(pace(&heap, &steady, INTERVAL), buffered(2_700, Held::Events));
    assert_eq!(pace(&steady, &heap, INTERVAL), buffered(2_700, Held::Lines));
    assert_eq!(pace(&heap, &nothing, INTERVAL), buffered(3_000, Held::Both));
    assert!(pace(&steady, &heap, INTERVAL).sentence().starts_with("streams of JSON lines (NDJSON) are,"));
    assert!(pace(&heap, &heap, INTERVAL).sentence().contains("(NDJSON), are held back, for up to 2.7 s"));
}

#[test]
fn a_stream_that_ends_early_was_cut() {
    let stream = seen(&[(0, 10), (300, 310)], End::Cut, 900);
    assert_eq!(pace_of_events(&stream).to_string(), "CutAfter1s");
}

#[test]
fn what_comes_with_the_cut_does_not_begin_the_silence() {
    let silent = seen(&[(0, 3_000)], End::Cut, 3_010);
    let verdict = cut(&silent, None, Duration::from_secs(5));
    assert_eq!(verdict, Verdict::Cut { after: millis(3_010), limit: Limit::Silence });
}

#[test]
fn a_cut_is_measured_from_the_last_byte_where_only_silence_is_cut() {
    let looked = Duration::from_secs(65);
    let silent = seen(&[(0, 3_000)], End::Cut, 63_200);
    let busy = seen(&[(0, 10), (65_000, 65_010)], End::Whole, 65_010);
    let verdict = cut(&silent, Some(&busy), looked);
    assert_eq!(verdict, Verdict::Cut { after: millis(60_200), limit: Limit::Silence });
    assert_eq!(verdict.to_string(), "CutAt60s");
    assert!(verdict.sentence().contains("after 60 s without a byte"));
}

#[test]
fn a_busy_stream_that_is_cut_tells_of_a_limit_on_the_whole_call() {
    let silent = seen(&[(0, 10)], End::Cut, 15_000);
    let busy = seen(&[(0, 10), (14_000, 14_010)], End::Cut, 15_020);
    let verdict = cut(&silent, Some(&busy), Duration::from_secs(65));
    assert_eq!(verdict.to_string(), "CutAt15s");
    assert!(verdict.sentence().contains("also while it is busy"));
}

#[test]
fn a_cut_is_believed_when_it_is_seen_twice() {
    let cut = |after, limit| Verdict::Cut { after: millis(after), limit };
    let (silence, total) = (Limit::Silence, Limit::Total);
    for (first, second) in [(60_000, 60_900), (60_000, 54_100), (600, 1_500), (4_000, 5_000)] {
        assert_eq!(settled(&cut(first, silence), cut(second, silence), true), [cut(first, silence)]);
    }
    // The busy call of one look was not answered, or ended by chance.
    assert_eq!(settled(&cut(60_000, total), cut(60_100, silence), true), [cut(60_000, silence)]);
    assert_eq!(settled(&cut(60_000, silence), cut(60_100, total), true), [cut(60_000, silence)]);
}

#[test]
fn calls_that_end_whenever_it_may_be_are_unsteady() {
    let cut = |after| Verdict::Cut { after: millis(after), limit: Limit::Total };
    let held = || Verdict::Buffered { held: millis(300), what: Held::Both };
    let unsteady = |first, second| vec![Verdict::Unsteady { first: millis(first), second: millis(second) }];
    assert_eq!(settled(&cut(200), cut(1_300), true), unsteady(200, 1_300));
    assert_eq!(settled(&cut(60_000), cut(53_000), true), unsteady(60_000, 53_000));
    assert_eq!(settled(&held(), cut(2_000), true), unsteady(300, 2_000));
    assert_eq!(settled(&cut(2_000), held(), true), unsteady(2_000, 300));
    assert_eq!(settled(&cut(2_000), held(), false), [held()], "whole, and held back");
    assert_eq!(settled(&held(), held(), true), [held()]);
}

#[test]
fn what_was_seen_once_and_not_again_is_no_cut_but_is_told() {
    let cut = || Verdict::Cut { after: millis(900), limit: Limit::Total };
    for second in [Verdict::Streaming, Verdict::NotCut { looked: millis(65_000) }] {
        let told = Verdict::EndedOnce { after: millis(900) };
        assert_eq!(settled(&cut(), second.clone(), false), [told, second]);
    }
    assert_eq!(settled(&cut(), Verdict::ProbeDisabled, false), [Verdict::ProbeDisabled]);
}

#[test]
fn other_timeouts_are_named_by_what_was_measured() {
    let named = |after| Verdict::Cut { after: millis(after), limit: Limit::Silence }.to_string();
    assert_eq!(named(2_100), "CutAfter2s");
    assert_eq!(named(28_900), "CutAt30s");
    assert_eq!(named(51_400), "CutAt50s");
    assert_eq!(named(55_000), "CutAfter55s");
    assert_eq!(named(300_200), "CutAfter300s");
}

#[test]
fn a_limit_is_the_largest_body_that_passed() {
    let uploads = [(8 * MIB, Upload::Refused), (MIB, Upload::Passed), (2 * MIB, Upload::Refused)];
    assert_eq!(body(&uploads).to_string(), "BodyLimit1MiB");
    assert_eq!(body(&[(64 * 1024, Upload::Passed), (MIB, Upload::Refused)]).to_string(), "BodyLimit64KiB");
    assert_eq!(body(&[(MIB, Upload::Refused)]).to_string(), "BodyLimit0bytes");
    assert_eq!(body(&[(8 * MIB, Upload::Passed)]), Verdict::BodyPasses { bytes: 8 * MIB });
}

proptest! {
    #[test]
    fn neither_clocks_nor_a_steady_delay_nor_jitter_matter(
        clock in 0_u64..2_000_000_000_000,
        delay in 0_u64..5_000,
        jitter in prop::collection::vec(0_u64..400, 1..20),
    ) {
        let events: Vec<_> = (0_u64..).zip(&jitter).map(|(i, jitter)| {
            (clock + i * 300, delay + i * 300 + jitter)
        }).collect();
        prop_assert_eq!(pace_of_events(&seen(&events, End::Whole, 60_000)), Verdict::Streaming);
    }

    #[test]
    fn what_comes_in_one_heap_is_buffered(clock in 0_u64..2_000_000_000_000, count in 4_u64..30, spread in 0_u64..50) {
        let end = (count - 1) * 300 + 5;
        let events: Vec<_> = (0..count).map(|i| (clock + i * 300, end + i * spread / count)).collect();
        let verdict = pace_of_events(&seen(&events, End::Whole, end + 50));
        prop_assert_eq!(verdict.to_string(), "Buffered");
    }

    #[test]
    fn a_heap_of_four_is_enough(heaps in 1_u64..6) {
        // A front that gives out what it has when its buffer is full: four events at a time.
        let events: Vec<_> = (0..heaps * 4).map(|i| (i * 300, (i / 4 * 4 + 3) * 300)).collect();
        prop_assert_eq!(pace_of_events(&seen(&events, End::Whole, 10_000)).to_string(), "Buffered");
    }

    #[test]
    fn every_cut_has_a_name_near_to_what_was_measured(after in 0_u64..1_000_000) {
        let name = Verdict::Cut { after: millis(after), limit: Limit::Total }.to_string();
        let named: u64 = name.trim_start_matches("CutAt").trim_start_matches("CutAfter").trim_end_matches('s').parse().unwrap();
        prop_assert!((named * 1_000).abs_diff(after) <= 1_500, "{}", name);
    }

    #[test]
    fn the_limit_lies_between_what_passed_and_what_was_refused(limit in 0_u64..16) {
        let tried = [8, 1, 2, 4].map(|mib| (mib * MIB, if mib <= limit { Upload::Passed } else { Upload::Refused }));
        match body(&tried) {
            Verdict::BodyPasses { bytes } => prop_assert!(limit >= 8 && bytes == 8 * MIB),
            Verdict::BodyLimit { bytes } => prop_assert!(bytes <= limit * MIB && limit < 8),
            other => prop_assert!(false, "{}", other),
        }
    }
}
