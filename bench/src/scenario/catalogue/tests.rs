//! Names, and who takes part.

use super::*;
use crate::stats::{Kind as Against, TARGETS};

fn names(chosen: &[&str]) -> Vec<&'static str> {
    let owned: Vec<_> = chosen.iter().map(|name| (*name).to_owned()).collect();
    choose(&owned).unwrap().iter().map(|scenario| scenario.name).collect()
}

#[test]
fn scenarios_are_chosen_by_name_or_by_its_beginning() {
    assert_eq!(names(&["sse"]), ["sse-200x100", "sse-5000x1"]);
    assert_eq!(names(&["saturation-1k-64"]), ["saturation-1k-64"]);
    assert_eq!(names(&[]).len(), ALL.len());
    let error = choose(&["speed".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("\"speed\"") && error.contains("saturation-1k-64"), "{error}");
}

#[test]
fn names_are_of_one_scenario_each() {
    let mut names: Vec<_> = ALL.iter().map(|scenario| scenario.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len());
}

#[test]
fn a_label_tells_the_variants_of_a_scenario_apart() {
    for scenario in ALL {
        let variants = scenario.variants(&PeerKind::ALL, &Build::ALL);
        assert!(!variants.is_empty(), "{}", scenario.name);
        let mut labels: Vec<_> = variants.iter().map(|v| format!("{} {}", v.peer, v.label())).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), variants.len(), "{}", scenario.name);
    }
}

#[test]
fn every_target_has_its_samples() {
    for target in TARGETS {
        let scenario = ALL.iter().find(|scenario| scenario.name == target.scenario);
        let scenario = scenario.unwrap_or_else(|| panic!("no scenario {}", target.scenario));
        let others = match target.kind {
            Against::AtMostRatio(side) | Against::AtMostAbove(side) => vec![side],
            Against::AtMostAbsolute => Vec::new(),
        };
        for build in Build::ALL {
            let variants = scenario.variants(&PeerKind::ALL, &[build]);
            for side in others.iter().chain([&target.subject]) {
                let wanted = side.variant_in(build);
                let found = variants.iter().any(|v| v.peer.as_str() == side.peer && v.label() == wanted);
                assert!(found, "{}: no {} {wanted:?}", target.text, side.peer);
            }
        }
    }
}

#[test]
fn nobody_sleeps_where_a_scenario_is_about_cpu_alone() {
    let polling: Vec<_> =
        ALL.iter().filter(|scenario| scenario.busy_poll()).map(|scenario| scenario.name).collect();
    let expected = [
        "same-rate-1k-64",
        "same-rate-log-off",
        "saturation-1k-64",
        "saturation-1k-512",
        "post-4k",
        "h2c-1k",
        "bodies-64k",
        "uploads-1m",
        "growth-agents",
    ];
    assert_eq!(polling, expected);
}

#[test]
fn what_cannot_be_run_says_why() {
    let of = |name: &str, peers: &[PeerKind], is_root| {
        choose(&[name.to_owned()]).unwrap()[0].obstacle(peers, &[Build::Plain], is_root)
    };
    assert_eq!(of("churn", &[PeerKind::Krypton], true), None);
    assert!(of("churn", &[PeerKind::Krypton], false).unwrap().contains("root"));
    assert!(of("start", &[PeerKind::Nginx], true).unwrap().contains("--peers"));
    assert_eq!(of("rate-2k", &[PeerKind::Nginx], false), None);
    assert!(choose(&[String::new()]).is_err());
}
