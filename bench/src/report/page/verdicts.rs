//! The table of targets.
//!
//! Owns how a claim is written, here and in the summary.

use maud::{Markup, html};

use crate::report::format::{counted, number, plain, range, times, unit};
use crate::result::RunResult;
use crate::stats::{Build, Claim, Interval, Kind, Reason, Verdict, judge};

/// The section.
pub(super) fn verdicts(result: &RunResult) -> Markup {
    let claims = judge(result);
    let absent = Build::ALL.into_iter().filter(|build| claims.iter().all(|claim| claim.build != *build));
    html! {
        section #targets {
            h2 { "Targets" }
            p { (counts(&claims)) }
            @for build in absent { p.note { "The " (build.title()) " took no part; its bounds are not judged." } }
            div.scroll tabindex="0" role="region" aria-label="Targets" {
                table {
                    thead {
                        tr {
                            th scope="col" { "Target" }
                            th scope="col" { "Build" }
                            th.num scope="col" { "At most" }
                            th.num scope="col" { "Measured, with 95 % interval" }
                            th.num scope="col" { "Rounds" }
                            th scope="col" { "Verdict" }
                        }
                    }
                    tbody { @for claim in &claims { (row(claim)) } }
                }
            }
        }
    }
}

fn row(claim: &Claim) -> Markup {
    let target = claim.target;
    html! {
        tr {
            th scope="row" { (target.text) }
            td { (claim.build.short()) }
            td.num { (bound(claim)) }
            td.num { @match claim.measured { Some(measured) => (with_ends(claim, measured)), None => "–" } }
            td.num {
                (claim.rounds)
                @if claim.left_out > 0 { div.range { (counted(claim.left_out, "sample")) " left out" } }
            }
            td.why { (badge(claim.verdict)) }
        }
    }
}

fn badge(verdict: Verdict) -> Markup {
    html! {
        @match verdict {
            Verdict::Met => span.verdict.met { "✓ " (verdict.word()) },
            Verdict::Missed => span.verdict.missed { "✗ " (verdict.word()) },
            Verdict::NotShown(reason) => {
                span.verdict { "○ " (verdict.word()) }
                div.range { (reason.words()) }
            },
        }
    }
}

/// "Of 13 targets met: 8, missed: 1, not shown: 4."
pub(in crate::report) fn counts(claims: &[Claim]) -> String {
    let count = |is: fn(&Verdict) -> bool| claims.iter().filter(|claim| is(&claim.verdict)).count();
    let met = count(|verdict| matches!(verdict, Verdict::Met));
    let missed = count(|verdict| matches!(verdict, Verdict::Missed));
    let open = claims.len() - met - missed;
    let absent =
        count(|verdict| matches!(verdict, Verdict::NotShown(Reason::NotMeasured | Reason::NothingToCompare)));
    let of_them = if absent > 0 { format!(", of which {absent} were not measured") } else { String::new() };
    format!(
        "Of {} met: {met}, missed: {missed}, not shown: {open}{of_them}.",
        counted(claims.len(), "target")
    )
}

/// What was measured, with the ends of its interval.
pub(in crate::report) fn with_ends(claim: &Claim, measured: Interval) -> String {
    match claim.target.kind {
        Kind::AtMostRatio(_) => times(measured),
        Kind::AtMostAbove(_) | Kind::AtMostAbsolute => {
            let [low, mid, high] =
                [measured.low, measured.mid, measured.high].map(|figure| value(claim, figure));
            format!("{mid} ({})", range(&low, &high))
        }
    }
}

/// The bound, in the target's unit.
pub(in crate::report) fn bound(claim: &Claim) -> String {
    written(claim, claim.target.bound(claim.build), plain)
}

fn value(claim: &Claim, value: f64) -> String {
    written(claim, value, number)
}

fn written(claim: &Claim, value: f64, number: fn(f64) -> String) -> String {
    use crate::result::Metric::{P50Us, RssAfterRatio, TableUpdateUs};
    match (claim.target.kind, claim.target.metric) {
        (Kind::AtMostRatio(_), _) | (_, RssAfterRatio) => format!("{}×", number(value)),
        (_, P50Us | TableUpdateUs) => format!("{} µs", number(value)),
        (_, metric) => {
            let (per, unit) = unit(metric, value.abs());
            format!("{}{unit}", number(value / per))
        }
    }
}
