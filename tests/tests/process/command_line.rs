//! The programs as their users start them wrongly, and ask them for help.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use krypton_e2e::programs::krypton;
use krypton_e2e::state::RunDir;
use tempfile::TempDir;

use crate::support::SOON;

const PROGRAMS: [&str; 3] = ["krypton-controller", "krypton-gateway", "krypton-example-agent"];

/// Runs a program to its end: its exit code, and what it wrote.
async fn run(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let program = krypton(program).unwrap().args(args);
    let mut running = program.start(RunDir::of_this_process().unwrap()).unwrap();
    let status = running.ended(SOON).await.unwrap();
    (status.code(), running.log().read().unwrap())
}

/// A listener, and its address.
fn taken() -> (TcpListener, String) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn each_tells_its_flags() {
    for (program, flag) in PROGRAMS.into_iter().zip(["--manifests", "--snapshot-file", "--mcp-stateless"]) {
        let (code, output) = run(program, &["--help"]).await;
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("Usage: ") && output.contains(flag), "{output}");
    }
}

#[tokio::test]
async fn each_tells_its_version() {
    for program in PROGRAMS {
        let (code, output) = run(program, &["--version"]).await;
        assert_eq!((code, output), (Some(0), format!("{program} {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

#[tokio::test]
async fn a_flag_that_does_not_exist_is_named() {
    for program in PROGRAMS {
        let (code, output) = run(program, &["--no-such-flag"]).await;
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains("unexpected argument '--no-such-flag'"), "{output}");
    }
}

#[tokio::test]
async fn flags_that_contradict_each_other_are_named() {
    for other in ["--kubeconfig", "--namespace"] {
        let (code, output) = run("krypton-controller", &["--manifests", ".", other, "x"]).await;
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains("--manifests") && output.contains(other), "{output}");
        assert!(output.contains("cannot be used with"), "{output}");
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file.yaml");
    std::fs::write(&file, "").unwrap();
    let missing = folder.path().join("missing");
    for (path, reason) in [(&missing, "No such file or directory"), (&file, "not a folder")] {
        let (code, output) = run_on(path).await;
        assert_eq!(code, Some(1), "{output}");
        assert!(output.starts_with("krypton-controller: --manifests: "), "{output}");
        assert!(output.contains(path.to_str().unwrap()) && output.contains(reason), "{output}");
    }
}

async fn run_on(folder: &Path) -> (Option<i32>, String) {
    let any = "127.0.0.1:0";
    let folder = folder.to_str().unwrap();
    run("krypton-controller", &["--manifests", folder, "--discovery-listen", any, "--admin-listen", any])
        .await
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_its_flag() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().to_str().unwrap();
    let (_listener, taken) = taken();
    let any = "127.0.0.1:0";
    for (program, flag, other, more) in [
        ("krypton-gateway", "--listen", "--admin-listen", &[][..]),
        ("krypton-gateway", "--admin-listen", "--listen", &[]),
        ("krypton-controller", "--discovery-listen", "--admin-listen", &["--manifests", folder]),
        ("krypton-controller", "--admin-listen", "--discovery-listen", &["--manifests", folder]),
    ] {
        let args = [&[flag, &taken, other, any], more].concat();
        let (code, output) = run(program, &args).await;
        assert_eq!(code, Some(1), "{program} {flag}: {output}");
        assert!(output.contains(flag) && output.contains(&taken), "{program}: {output}");
        assert!(output.contains("Address already in use"), "{program}: {output}");
        assert!(!output.contains("backtrace"), "{program}: {output}");
    }
    let (code, output) = run("krypton-example-agent", &["--listen", &taken]).await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&taken) && output.contains("Address already in use"), "{output}");
}
