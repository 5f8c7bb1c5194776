//! Endpoints that the Kubernetes API accepts: pods a test declares, at addresses of its own bridge.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use krypton_e2e::bridge::Bridge;
use krypton_e2e::cluster::{Namespace, shared};
use krypton_e2e::programs::ExampleAgent;
use krypton_e2e::wait::eventually;
use kube::Api;
use kube::api::ListParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const SOON: Duration = Duration::from_secs(30);

const SERVICE: &str = r"
apiVersion: v1
kind: Service
metadata: { name: echo, labels: { krypton.ai/agent: echo } }
spec:
  selector: { app: echo }
  ports: [{ name: http, port: 80, targetPort: http }]
";

/// Waits until the Service has exactly these endpoints: address, ready, terminating.
async fn endpoints_become(namespace: &Namespace, expected: &[(IpAddr, bool, bool)]) {
    let slices: Api<EndpointSlice> = namespace.api();
    // The controller copies the Service's labels onto its slices, which is how Krypton finds them.
    let ours = ListParams::default().labels("krypton.ai/agent=echo,kubernetes.io/service-name=echo");
    eventually("the endpoints are as expected", SOON, async || {
        let found = slices.list(&ours).await?;
        let mut found: Vec<_> =
            found.items.iter().flat_map(|slice| &slice.endpoints).filter_map(summary).collect();
        found.sort_unstable();
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
}

fn summary(endpoint: &Endpoint) -> Option<(IpAddr, bool, bool)> {
    let EndpointConditions { ready, terminating, .. } = endpoint.conditions.clone()?;
    Some((endpoint.addresses.first()?.parse().ok()?, ready?, terminating?))
}

async fn get(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /hello HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn pods_become_endpoints_by_the_real_controllers() {
    let cluster = shared().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let labels = BTreeMap::from([("app".to_owned(), "echo".to_owned())]);
    let (first, second) = (bridge.address(10).into(), bridge.address(11).into());
    let test = cluster.with_namespace(async |namespace| {
        namespace.apply(SERVICE).await.unwrap();
        namespace.add_pod("echo-1", &labels, first).await.unwrap();
        namespace.add_pod("echo-2", &labels, second).await.unwrap();
        endpoints_become(namespace, &[(first, true, false), (second, true, false)]).await;
        namespace.set_pod_ready("echo-1", false).await.unwrap();
        endpoints_become(namespace, &[(first, false, false), (second, true, false)]).await;
        namespace.terminate_pod("echo-2").await.unwrap();
        endpoints_become(namespace, &[(first, false, false), (second, false, true)]).await;
        namespace.delete_pod("echo-2").await.unwrap();
        endpoints_become(namespace, &[(first, false, false)]).await;
    });
    test.await.unwrap();
}

#[tokio::test]
async fn an_agent_answers_at_an_address_of_the_bridge() {
    let bridge = Bridge::create().unwrap();
    let address = bridge.add(10).unwrap();
    let agent = ExampleAgent::start(SocketAddr::from((address, 0)), &[]).await.unwrap();
    assert_eq!(agent.http.ip(), address);
    let answer = get(agent.http).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn an_address_that_was_removed_does_not_answer() {
    let bridge = Bridge::create().unwrap();
    let address = bridge.add(10).unwrap();
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect((address, port)).await.unwrap();
    bridge.remove(10).unwrap();
    // Not refused, which would say that the host is there: silence, or after a while no route.
    match tokio::time::timeout(Duration::from_millis(200), TcpStream::connect((address, port))).await {
        Err(_) => {}
        Ok(outcome) => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::HostUnreachable),
    }
}

#[tokio::test]
async fn a_bridge_can_play_the_cluster_ip_of_a_service() {
    let cluster = shared().await.unwrap();
    let bridge = Bridge::create().unwrap();
    let address = bridge.cluster_ip().unwrap();
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let service = SERVICE.replace("spec:", &format!("spec:\n  clusterIP: {address}"));
        // A test before this one may have had the same bridge, and its namespace may not be gone yet.
        eventually("the API server takes the address", SOON, async || namespace.apply(&service).await)
            .await
            .unwrap();
    });
    test.await.unwrap();
}

#[tokio::test]
async fn two_bridges_share_no_address_and_are_gone_when_dropped() {
    let interface = |bridge: &Bridge| format!("/sys/class/net/krypton{}", bridge.address(0).octets()[2]);
    let (first, second) = (Bridge::create().unwrap(), Bridge::create().unwrap());
    assert_ne!(first.address(10), second.address(10));
    let path = interface(&first);
    assert!(std::fs::exists(&path).unwrap());
    drop(first);
    assert!(!std::fs::exists(&path).unwrap());
}
