//! Start and end of the whole.

use clap::Parser as _;
use krypton_discovery::wire::route_discovery_client::RouteDiscoveryClient;
use krypton_discovery::wire::{DeltaRoutesRequest, Node};
use tempfile::TempDir;
use tokio_stream::StreamExt as _;

use super::*;

/// Far above what anything takes.
const DEADLINE: Duration = Duration::from_secs(20);

fn args(folder: &TempDir, discovery: &str, admin: &str) -> Args {
    let folder = folder.path().to_str().unwrap();
    Args::parse_from([
        "krypton-controller",
        "--manifests",
        folder,
        "--discovery-listen",
        discovery,
        "--admin-listen",
        admin,
    ])
}

#[tokio::test]
async fn a_manifest_reaches_a_gateway() {
    let folder = TempDir::new().unwrap();
    let manifest = "apiVersion: krypton.ai/v1alpha1\nkind: Agent\nmetadata: {name: a}\nspec: {image: i}\n";
    std::fs::write(folder.path().join("a.yaml"), manifest).unwrap();
    let shutdown = CancellationToken::new();
    let app = App::bind(args(&folder, "127.0.0.1:0", "127.0.0.1:0"), shutdown.clone()).await.unwrap();
    let address = format!("http://{}", app.bound().discovery);
    let mut tasks = JoinSet::new();
    tasks.spawn(app.run());

    let gateway = async {
        let mut client = RouteDiscoveryClient::connect(address).await.unwrap();
        let node = Some(Node { id: "g".into(), build: String::new() });
        let hello = DeltaRoutesRequest { node, ..DeltaRoutesRequest::default() };
        let requests = tokio_stream::once(hello).chain(tokio_stream::pending());
        let mut responses = client.delta_routes(requests).await.unwrap().into_inner();
        let first = responses.message().await.unwrap().unwrap();
        assert_eq!(first.upserts[0].name, "default/a");
        shutdown.cancel();
        tasks.join_next().await.unwrap().unwrap().unwrap();
    };
    tokio::time::timeout(DEADLINE, gateway).await.expect("in time");
}

#[tokio::test]
async fn what_is_wrong_from_the_start_is_said_at_the_start() {
    let folder = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let start = async |args| {
        let result = App::bind(args, CancellationToken::new()).await;
        format!("{:#}", result.err().expect("must not start"))
    };
    let error = start(args(&folder, &taken, "127.0.0.1:0")).await;
    assert!(error.starts_with(&format!("--discovery-listen {taken} cannot be listened on")), "{error}");
    let error = start(args(&folder, "127.0.0.1:0", &taken)).await;
    assert!(error.starts_with(&format!("--admin-listen {taken} cannot be listened on")), "{error}");
    let missing = Args {
        manifests: Some(folder.path().join("missing")),
        ..args(&folder, "127.0.0.1:0", "127.0.0.1:0")
    };
    let error = start(missing).await;
    assert!(error.starts_with("--manifests: ") && error.contains("missing: No such file"), "{error}");
    let webhooks = Args {
        enable_webhooks: true,
        webhook_cert_dir: folder.path().to_owned(),
        ..args(&folder, "127.0.0.1:0", "127.0.0.1:0")
    };
    let error = start(webhooks).await;
    let file = folder.path().join("tls.crt");
    assert_eq!(
        error,
        format!("--webhook-cert-dir: {}: No such file or directory (os error 2)", file.display())
    );
    let kubeconfig = Args {
        manifests: None,
        kubeconfig: Some(folder.path().join("kubeconfig")),
        ..args(&folder, "127.0.0.1:0", "127.0.0.1:0")
    };
    let error = start(kubeconfig).await;
    assert!(error.starts_with("no way to the Kubernetes API: kubeconfig: "), "{error}");
}

#[tokio::test]
async fn a_part_that_ends_unasked_ends_the_whole_by_name() {
    let bound =
        Bound { discovery: ([127, 0, 0, 1], 1).into(), admin: ([127, 0, 0, 1], 2).into(), webhooks: None };
    let run = async |ended: Part| {
        let parts = vec![("source", endless_part(std::future::pending())), ("admin", ended)];
        let app = App { bound, parts, shutdown: CancellationToken::new() };
        let error = tokio::time::timeout(DEADLINE, app.run()).await.expect("in time").unwrap_err();
        format!("{error:#}")
    };
    assert_eq!(run(endless_part(std::future::ready(()))).await, "admin ended, which it never should");
    let failed = part(std::future::ready(Err(anyhow::anyhow!("no more files"))));
    assert_eq!(run(failed).await, "admin ended: no more files");
}
