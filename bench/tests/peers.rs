//! Every peer, started as the harness starts it, does the work that it is measured for.
//!
//! Programs that this machine does not have are passed over with a line; in CI that is a failure.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use krypton_bench::origin::Origin;
use krypton_bench::peers::{Peer, PeerKind, Setup, StartError, manifests, start};
use krypton_bench::procfs;
use krypton_bench::programs::Programs;
use krypton_e2e::client::get;
use krypton_e2e::wait::eventually;

const BENCH: &str = env!("CARGO_BIN_EXE_krypton-bench");

/// For a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(30);

async fn origin() -> Result<Origin> {
    let listen = ["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0", "--listen", "127.0.0.1:0"];
    Origin::start(Path::new(BENCH), &listen).await
}

fn setup(origin: &Origin) -> Setup {
    Setup {
        agents: 100,
        origins: origin.addresses().to_vec(),
        access_log: true,
        buffering: false,
        cores: Vec::new(),
        hops: 2,
        h2c: false,
        programs: Programs::in_folder(&Path::new(BENCH).with_file_name("")),
        threads: 1,
        go_pool: None,
    }
}

/// `None` where its program is not there.
async fn started(kind: PeerKind, setup: &Setup) -> Result<Option<Peer>> {
    let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    match start(kind, setup).await {
        Ok(peer) => Ok(Some(peer)),
        Err(error @ StartError::Missing { .. }) if !is_ci => {
            eprintln!("Passed over: {error}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// In every form that the scenarios have it.
async fn does_its_work(kind: PeerKind) -> Result<()> {
    let origin = origin().await?;
    let usual = setup(&origin);
    let forms = [
        usual.clone(),
        Setup { access_log: false, buffering: true, hops: 1, go_pool: Some(512), ..usual.clone() },
        Setup { h2c: true, threads: 2, ..usual },
    ];
    for form in forms {
        let Some(mut peer) = started(kind, &form).await? else { return Ok(()) };
        peer.check().await.with_context(|| format!("{form:?}"))?;
        assert_eq!(peer.has_ended(), None);
        assert_eq!(peer.info().name, kind.as_str());
        if kind != PeerKind::Direct {
            let info = peer.info();
            assert!(!info.version.is_empty() && !info.commands.is_empty(), "{info:?}");
            assert!(procfs::usage(&peer.pids())?.rss > 1 << 20);
        }
        let pids = peer.pids();
        peer.stop().await?;
        assert!(pids.is_empty() || procfs::usage(&pids).is_err());
    }
    Ok(())
}

#[tokio::test]
async fn direct_does_its_work() {
    does_its_work(PeerKind::Direct).await.unwrap();
}

#[tokio::test]
async fn krypton_does_its_work() {
    does_its_work(PeerKind::Krypton).await.unwrap();
}

#[tokio::test]
async fn nginx_does_its_work() {
    does_its_work(PeerKind::Nginx).await.unwrap();
}

#[tokio::test]
async fn haproxy_does_its_work() {
    does_its_work(PeerKind::Haproxy).await.unwrap();
}

#[tokio::test]
async fn envoy_does_its_work() {
    does_its_work(PeerKind::Envoy).await.unwrap();
}

#[tokio::test]
async fn go_does_its_work() {
    does_its_work(PeerKind::Go).await.unwrap();
}

#[tokio::test]
async fn a_call_leaves_a_line_where_that_is_asked_for() {
    let origin = origin().await.unwrap();
    for kind in [PeerKind::Krypton, PeerKind::Nginx, PeerKind::Haproxy, PeerKind::Envoy] {
        let Some(peer) = started(kind, &setup(&origin)).await.unwrap() else { continue };
        get(peer.address(), &peer.target(7, "bytes/1")).await.unwrap();
        let logs = peer.logs().to_vec();
        // Envoy writes what it has every ten seconds.
        eventually("the line of a call", SOON, async || {
            let logs = logs.iter().filter_map(|log| std::fs::read_to_string(log).ok());
            let logs: String = logs.collect();
            ensure!(logs.contains("agent-7") && logs.contains(r#""status":200"#), "{logs}");
            Ok(())
        })
        .await
        .unwrap_or_else(|error| panic!("{kind}: {error:#}"));
    }
}

#[tokio::test]
async fn a_peer_that_dies_is_seen() {
    let origin = origin().await.unwrap();
    let Some(mut peer) = started(PeerKind::Nginx, &setup(&origin)).await.unwrap() else { return };
    let master = peer.pids()[0].to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &master]).status().unwrap().success());
    let ended = eventually("its end", SOON, async || peer.has_ended().context("it runs"));
    let ended = ended.await.unwrap();
    assert!(ended.starts_with("nginx: it ended with ") && ended.contains("end of its log"), "{ended}");
    assert!(peer.check().await.is_err());
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let origin = origin().await.unwrap();
    let elsewhere = Setup { programs: Programs::in_folder(Path::new("/nowhere")), ..setup(&origin) };
    let error = start(PeerKind::Krypton, &elsewhere).await.unwrap_err();
    assert!(matches!(error, StartError::Missing { .. }), "{error}");
    assert!(error.to_string().starts_with("/nowhere/krypton-gateway is not there: cargo build"), "{error}");

    if started(PeerKind::Haproxy, &setup(&origin)).await.unwrap().is_some() {
        let on_no_core = Setup { cores: vec![1023], ..setup(&origin) };
        let error = start(PeerKind::Haproxy, &on_no_core).await.unwrap_err().to_string();
        assert!(error.contains("core 1023 is not one that may be used here"), "{error}");
    }
    let none = Setup { agents: 0, ..setup(&origin) };
    assert!(start(PeerKind::Direct, &none).await.is_err());
}

#[tokio::test]
async fn peers_stay_on_their_cores() {
    let origin = origin().await.unwrap();
    let core = *procfs::allowed_cores().unwrap().last().unwrap();
    for kind in [PeerKind::Krypton, PeerKind::Nginx, PeerKind::Go] {
        let Some(peer) = started(kind, &Setup { cores: vec![core], ..setup(&origin) }).await.unwrap() else {
            continue;
        };
        for pid in peer.pids() {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
            assert_eq!(allowed.trim(), core.to_string(), "{kind}");
        }
    }
}

#[tokio::test]
async fn a_manifest_that_changes_is_served() {
    let (origin, other) = (origin().await.unwrap(), origin().await.unwrap());
    let Some(peer) = started(PeerKind::Krypton, &setup(&origin)).await.unwrap() else { return };
    let folder = peer.manifests().unwrap();
    // One more than it was started with.
    manifests::write(folder, 100, &manifests::endpoints(100, other.addresses())).unwrap();
    eventually("the new agent answers", SOON, async || {
        let answer = get(peer.address(), &peer.target(100, "bytes/1")).await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    })
    .await
    .unwrap();
}
