//! What these tests share: an agent behind a gateway for proxies to stand in front of, what every proxy with the
//! recommended settings must let pass, and the scale of time.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use krypton_e2e::client::get;
use krypton_e2e::front::Front;
use krypton_e2e::front::checks::{Outcome, Silence, abort, silence, stream, upload};
use krypton_e2e::lockstep::{Base, Format, Stuck, holds_back, lockstep};
use krypton_e2e::programs::{Controller, ExampleAgent, Gateway};
use krypton_e2e::wait::eventually;
use tempfile::TempDir;

use crate::uploads::upload_is_passed_on;
use crate::websocket::websocket_passes;

/// All of this takes milliseconds; this is for a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Events of a stream in lockstep: enough to see one that is passed on in portions, and all of them together smaller
/// than the smallest buffer of a proxy.
const EVENTS: u32 = 50;

/// How long a proxy may take for one event. What is held back is never sent, however long one waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// More than any proxy takes unless told to.
const UPLOAD_BYTES: usize = 8 << 20;

/// Times around a proxy's read timeout. `KRYPTON_LONG=1` makes them those of a real ingress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// What the proxy is told; below all pauses of [`Scale::shorter`], above those of [`Scale::longer`].
    pub(crate) read_timeout: Duration,
    /// Events of a stream that outlasts it, one a second.
    pub(crate) events: u32,
}

/// One agent behind a gateway.
pub(crate) struct Stage {
    gateway: Gateway,
    _controller: Controller,
    _agent: ExampleAgent,
    manifests: TempDir,
}

// === impl Scale ===

impl Scale {
    pub(crate) const PACE: Duration = Duration::from_secs(1);

    pub(crate) fn of_this_run() -> Self {
        let long = std::env::var_os("KRYPTON_LONG").is_some_and(|value| value == "1");
        let (read_timeout, events) = if long { (60, 90) } else { (3, 8) };
        Self { read_timeout: Duration::from_secs(read_timeout), events }
    }

    /// Silence that passes.
    pub(crate) fn shorter(self) -> Duration {
        self.read_timeout / 2
    }

    /// Silence that does not.
    pub(crate) fn longer(self) -> Duration {
        self.read_timeout + Duration::from_secs(2)
    }
}

// === impl Stage ===

impl Stage {
    pub(crate) async fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let agent = ExampleAgent::start(any, &["--name", "echo"]).await.unwrap();
        let manifests = TempDir::new().unwrap();
        fs::write(manifests.path().join("echo.yaml"), manifest("echo", agent.http)).unwrap();
        let controller = Controller::start_on_manifests(manifests.path(), &[]).await.unwrap();
        let gateway = Gateway::start(controller.discovery, &["--allow-loopback-endpoints"]).await.unwrap();
        eventually("the gateway is ready", SOON, async || {
            let answer = get(gateway.admin, "/readyz?verbose").await?;
            ensure!(answer.status == 200, "{}", answer.text());
            Ok(())
        })
        .await
        .unwrap();
        Self { gateway, _controller: controller, _agent: agent, manifests }
    }

    /// Where a proxy sends calls.
    pub(crate) fn gateway(&self) -> SocketAddr {
        self.gateway.http
    }

    /// Has the gateway know another agent, at `address`.
    pub(crate) async fn add(&self, name: &str, address: SocketAddr) {
        fs::write(self.manifests.path().join(format!("{name}.yaml")), manifest(name, address)).unwrap();
        eventually("the gateway knows the agent", SOON, async || {
            let routes = get(self.gateway.admin, "/debug/routes").await?;
            ensure!(routes.text().contains(&format!("default/{name}")), "{}", routes.text());
            Ok(())
        })
        .await
        .unwrap();
    }

    /// The agent, without a proxy in between.
    pub(crate) fn past(&self) -> Base {
        through(self.gateway.http)
    }
}

/// The agent behind that address.
pub(crate) fn through(address: SocketAddr) -> Base {
    Base::new(address, "/v1/agents/default/echo")
}

/// What passes whoever stands in front, if that is told what we recommend; its read timeout is that of `scale`.
pub(crate) async fn everything_passes(stage: &Stage, front: &Front, scale: Scale) {
    let (base, past) = (through(front.address), stage.past());
    for format in [Format::Sse, Format::Ndjson] {
        lockstep(&base, format, EVENTS, PATIENCE).await.unwrap();
    }
    websocket_passes(&base).await;
    abort(&base, &past).await.unwrap();
    assert_eq!(upload(&base, UPLOAD_BYTES).await.unwrap(), Outcome::Whole);
    upload_is_passed_on(stage, front.address).await;
    long_calls_pass(&base, scale).await;
}

/// A stream that outlasts the read timeout passes, and silence below it.
pub(crate) async fn long_calls_pass(base: &Base, scale: Scale) {
    // Beside each other: they only wait.
    let (long, before, between) = tokio::join!(
        stream(base, scale.events, Scale::PACE),
        silence(base, Silence::BeforeHead, scale.shorter()),
        silence(base, Silence::BetweenEvents, scale.shorter()),
    );
    assert_eq!(
        [long.unwrap(), before.unwrap(), between.unwrap()],
        [Outcome::Whole, Outcome::Whole, Outcome::Whole]
    );
}

/// What becomes of silence above the read timeout: before the head, and between two events.
pub(crate) async fn long_silences(base: &Base, scale: Scale) -> (Outcome, Outcome) {
    let (before, between) = tokio::join!(
        silence(base, Silence::BeforeHead, scale.longer()),
        silence(base, Silence::BetweenEvents, scale.longer()),
    );
    (before.unwrap(), between.unwrap())
}

/// What becomes of an upload that agents take.
pub(crate) async fn large_upload(base: &Base) -> Outcome {
    upload(base, UPLOAD_BYTES).await.unwrap()
}

/// A stream in lockstep passes.
pub(crate) async fn is_passed_on(base: &Base, format: Format) {
    lockstep(base, format, EVENTS, PATIENCE).await.unwrap();
}

/// A stream in lockstep is stuck before its first event, because the proxy holds it back.
pub(crate) async fn is_held_back(stage: &Stage, base: &Base, format: Format) {
    let patience = Duration::from_secs(1);
    let stuck = lockstep(base, format, EVENTS, patience).await.unwrap_err();
    assert_eq!(stuck.downcast_ref::<Stuck>(), Some(&Stuck { received: 0 }), "{stuck:#}");
    holds_back(base, &stage.past(), format, EVENTS).await.unwrap();
}

fn manifest(name: &str, agent: SocketAddr) -> String {
    let (ip, port) = (agent.ip(), agent.port());
    format!(
        "apiVersion: krypton.ai/v1alpha1
kind: Agent
metadata:
  name: {name}
spec:
  image: example
  protocol: http
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  labels:
    krypton.ai/agent: {name}
    kubernetes.io/service-name: {name}
addressType: IPv4
ports:
  - name: http
    port: {port}
endpoints:
  - addresses: [{ip}]
    targetRef: {{ kind: Pod, name: {name}-1, uid: uid-{name}-1 }}
    conditions: {{ ready: true, serving: true, terminating: false }}
"
    )
}
