//! The page of a run: one HTML file.
//!
//! Owns its order: what was found, then whether the targets are met, then every scenario, then how to do it again. All
//! text goes through `maud`, which escapes it.

mod scenario;
pub(super) mod verdicts;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::format::{bytes, counted, plain};
use crate::result::{PeerInfo, RunResult, Settings};
use crate::stats::{CLAIM_ROUNDS, SPOILED_FROM_PERCENT};

const STYLE: &str = include_str!("page/style.css");

/// The whole page.
pub(super) fn page(result: &RunResult) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Krypton beside its peers, " (day(&result.started)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Krypton beside its peers" }
                    (banners(result))
                    (facts(result))
                    (contents(result))
                }
                main {
                    (verdicts::verdicts(result))
                    @for (n, scenario) in result.scenarios.iter().enumerate() {
                        (scenario::section(scenario, &format!("s{}", n + 1)))
                    }
                    (rules(&result.settings))
                    (peers(&result.peers))
                }
            }
        }
    }
}

/// The day of an RFC 3339 time.
pub(super) fn day(started: &str) -> &str {
    started.split('T').next().unwrap_or(started)
}

fn banners(result: &RunResult) -> Markup {
    html! {
        @if let Some(why) = &result.aborted {
            p.banner role="note" {
                strong { "This run ended early: " } (why) ". What was measured before is here, and it is not all."
            }
        }
        @if result.settings.smoke {
            p.banner role="note" {
                strong { "This was a smoke run: " }
                "seconds each, to see that everything works. No figure here says anything about speed."
            }
        }
    }
}

fn facts(result: &RunResult) -> Markup {
    let (machine, settings) = (&result.machine, &result.settings);
    let missing = result.peers.iter().filter_map(|peer| Some((peer, peer.missing.as_ref()?)));
    html! {
        dl.facts {
            dt { "When" } dd { (result.started) }
            dt { "Machine" }
            dd {
                (machine.cpu) ", " (counted(machine.cores, "core")) ", " (bytes(memory(machine.memory))) ", "
                (machine.system) ", Linux " (machine.kernel)
                @if machine.virtualized { ", a virtual machine" }
            }
            dt { "How" }
            dd {
                (counted(settings.rounds as usize, "round")) " of " (plain(settings.seconds)) " s, "
                (plain(table_size(settings))) " agents; proxy on " (cores(&settings.proxy_cores))
                ", load on " (cores(&settings.load_cores))
            }
            dt { "Command" } dd { code { (result.command) } }
            dt { "Rules" }
            dd {
                "Two are compared within paired rounds only. Every peer has the same routes, pools and cores. The targets "
                "about CPU of a call are held against figures at one rate for all. A target is met only beyond the noise. "
                a href="#rules" { "All rules" }
            }
            dt { "Who" }
            dd {
                @for (n, peer) in result.peers.iter().filter(|peer| peer.missing.is_none()).enumerate() {
                    @if n > 0 { ", " }
                    (peer.name) @if !peer.version.is_empty() { " " (peer.version) }
                }
                @for (peer, why) in missing { br; strong { (peer.name) " took no part: " } (why) }
            }
        }
    }
}

fn contents(result: &RunResult) -> Markup {
    html! {
        nav aria-label="Scenarios" {
            ul {
                li { a href="#targets" { "Targets" } }
                @for (n, scenario) in result.scenarios.iter().enumerate() {
                    li { a href={ "#s" (n + 1) } { (scenario.name) } }
                }
                li { a href="#rules" { "Rules" } }
                li { a href="#peers" { "Commands and configurations" } }
            }
        }
    }
}

fn rules(settings: &Settings) -> Markup {
    html! {
        section #rules {
            h2 { "How to read this" }
            ul {
                li {
                    "All peers of a round are measured right after each other, and rounds are repeated. Two are compared "
                    "within rounds only, so that what troubles a whole round troubles both."
                }
                li {
                    "A figure is the median over the rounds, with the smallest and the largest beside it. A ratio is the "
                    "median of the ratios of the rounds, with its 95 % interval (bootstrap)."
                }
                li {
                    "With at least " (CLAIM_ROUNDS) " rounds a target is " strong { "met" } " when the whole interval is "
                    "inside it, and " strong { "missed" } " when the whole interval is outside. Else it is "
                    strong { "not shown" } ", which is neither good nor bad."
                }
                @if (settings.rounds as usize) < CLAIM_ROUNDS {
                    li {
                        "This run has " (counted(settings.rounds as usize, "round")) ", which is a look and not enough for "
                        "a claim. With three rounds an interval covers the truth in 75 of 100 cases."
                    }
                }
                li {
                    "The primary figure is CPU per request at the same rate for all. CPU is that of all processes and all "
                    "hops of a peer, user and system."
                }
                li {
                    "Latency of calls at a rate counts from the time at which a call was to be sent, so that a proxy that "
                    "stands still is not excused from the calls that it held up. Where calls follow each other as fast as "
                    "answers come, it counts from the sending."
                }
                li {
                    "Every peer has the same routes, equally large pools of kept connections, no limit of requests on a "
                    "connection, and the same cores. Where logs or buffering differ, the variant says so. The exception is "
                    "the Go gateway, which is wired as an existing product is, and no measure of what Go can do: two hops, "
                    "no headers added, no access log, and two idle connections to a host, as Go has them by default."
                }
                li {
                    "A sample that a doubt spoils is left out and counted: calls failed, the peer ended, or others had "
                    (plain(SPOILED_FROM_PERCENT)) " % or more of the proxy's cores. Where the generator was the limit, "
                    "throughput and latency are left out; CPU per request is kept. † means that nothing else was left."
                }
            }
        }
    }
}

fn peers(peers: &[PeerInfo]) -> Markup {
    html! {
        section #peers {
            h2 { "Commands and configurations" }
            @for peer in peers {
                details {
                    summary {
                        b { (peer.name) } " "
                        @match &peer.missing { Some(_) => "took no part", None => (peer.version) }
                    }
                    @if let Some(why) = &peer.missing { p { (why) } }
                    @for command in &peer.commands { pre { code { (command) } } }
                    @for (name, text) in &peer.files {
                        h3 { (name) }
                        pre { code { (text) } }
                    }
                }
            }
        }
    }
}

fn cores(cores: &[usize]) -> String {
    match cores {
        [] => "any core".to_owned(),
        [one] => format!("core {one}"),
        many => format!("cores {}", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

#[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
fn memory(bytes: u64) -> f64 {
    bytes as f64
}

fn table_size(settings: &Settings) -> f64 {
    f64::from(u32::try_from(settings.agents).unwrap_or(u32::MAX))
}
