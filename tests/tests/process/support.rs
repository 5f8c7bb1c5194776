//! What these tests share: the programs on a folder of manifests, and looks into their admin ports and logs.

pub(crate) mod manifest;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use krypton_e2e::client::{Answer, get};
use krypton_e2e::process::Log;
use krypton_e2e::programs::{Controller, ExampleAgent, Gateway};
use krypton_e2e::traffic::{Load, Traffic};
use krypton_e2e::wait::eventually;
use serde_json::Value;

use manifest::Manifests;

/// All of this takes milliseconds; this is for a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A controller that will be started again listens here: no outgoing connection takes its port in between, since
/// those leave from 127.0.0.1.
pub(crate) const REUSABLE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);

/// A folder of manifests, a controller that reads it, and a gateway that follows.
pub(crate) struct Krypton {
    pub(crate) manifests: Manifests,
    pub(crate) controller: Controller,
    pub(crate) gateway: Gateway,
}

// === impl Krypton ===

impl Krypton {
    /// Starts both programs on `manifests`, and waits until calls are taken.
    pub(crate) async fn start(manifests: Manifests) -> Self {
        Self::start_with(manifests, &[]).await
    }

    /// The same, with flags for the gateway.
    pub(crate) async fn start_with(manifests: Manifests, args: &[&str]) -> Self {
        let controller = controller_on(&manifests).await;
        let gateway = gateway_of(controller.discovery, args).await;
        is_ready(gateway.admin).await;
        Self { manifests, controller, gateway }
    }

    /// The gateway's answer to `GET target`.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        get(self.gateway.http, target).await.unwrap()
    }

    /// Kills the controller and starts another one at the same address.
    pub(crate) async fn restart_controller(&mut self) {
        self.controller.process.kill();
        self.controller = controller_at(self.controller.discovery, &self.manifests).await;
    }
}

/// Calls the agent `echo` of the gateway at `address`: short calls, streams and uploads.
pub(crate) fn traffic(address: SocketAddr) -> Traffic {
    Traffic::start(&[address], "/v1/agents/default/echo", Load::MIXED)
}

/// A controller that may be started again at the same address.
pub(crate) async fn controller_on(manifests: &Manifests) -> Controller {
    controller_at(REUSABLE, manifests).await
}

/// A controller that gateways find at `discovery`.
pub(crate) async fn controller_at(discovery: SocketAddr, manifests: &Manifests) -> Controller {
    let args = ["--discovery-listen", &discovery.to_string()];
    Controller::start_on_manifests(manifests.path(), &args).await.unwrap()
}

/// A gateway that dials this machine.
pub(crate) async fn gateway_of(discovery: SocketAddr, args: &[&str]) -> Gateway {
    let args: Vec<&str> = ["--allow-loopback-endpoints"].iter().chain(args).copied().collect();
    Gateway::start(discovery, &args).await.unwrap()
}

/// An example agent called `name`, on a free port.
pub(crate) async fn agent(name: &str) -> ExampleAgent {
    agent_with(name, &[]).await
}

/// The same, with flags.
pub(crate) async fn agent_with(name: &str, args: &[&str]) -> ExampleAgent {
    let args: Vec<&str> = ["--name", name].iter().chain(args).copied().collect();
    ExampleAgent::start(SocketAddr::from(([127, 0, 0, 1], 0)), &args).await.unwrap()
}

/// An address where nobody listens: whoever dials it is refused.
pub(crate) async fn closed_port() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind(REUSABLE).await.unwrap();
    listener.local_addr().unwrap()
}

/// Waits until the program behind that admin port is ready.
pub(crate) async fn is_ready(admin: SocketAddr) {
    status_becomes(admin, "/readyz?verbose", 200).await;
}

/// Waits until `GET target` is answered with `status`.
pub(crate) async fn status_becomes(address: SocketAddr, target: &str, status: u16) -> Answer {
    eventually(&format!("{target} is answered with {status}"), SOON, async || {
        let answer = get(address, target).await?;
        ensure!(answer.status == status, "{} {}", answer.status, answer.text());
        Ok(answer)
    })
    .await
    .unwrap()
}

/// The gateway's table, as operators see it.
pub(crate) async fn table(gateway: &Gateway) -> Result<Value> {
    Ok(get(gateway.admin, "/debug/routes").await?.json())
}

/// Waits until the gateway's table is `live`, `lost` or `fromDisk`.
pub(crate) async fn freshness_becomes(gateway: &Gateway, freshness: &str) {
    eventually(&format!("the table is {freshness}"), SOON, async || {
        let table = table(gateway).await?;
        ensure!(table["freshness"] == freshness, "{}", table["freshness"]);
        Ok(())
    })
    .await
    .unwrap();
}

/// Waits until new calls to the agent `default/<name>` go to exactly these addresses.
pub(crate) async fn endpoints_become(gateway: &Gateway, name: &str, expected: &[SocketAddr]) {
    let (name, expected) = (format!("default/{name}"), expected.iter().copied().collect::<BTreeSet<_>>());
    eventually(&format!("{name} has the endpoints {expected:?}"), SOON, async || {
        let table = table(gateway).await?;
        let routes = table["routes"].as_array().context("no routes")?;
        let route = routes.iter().find(|route| route["name"] == name.as_str()).context("no such route")?;
        let shown = route["endpoints"].as_array().context("no endpoints")?.iter();
        let found: BTreeSet<SocketAddr> = shown
            .map(|endpoint| Ok(serde_json::from_value(endpoint["address"].clone())?))
            .collect::<Result<_>>()?;
        ensure!(found == expected, "{found:?}");
        Ok(())
    })
    .await
    .unwrap();
}

/// The value of a metric's series, spelled as in the text; 0 where there is none.
pub(crate) async fn metric(admin: SocketAddr, series: &str) -> Result<f64> {
    let answer = get(admin, "/metrics").await?;
    let value = answer.text().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(value.unwrap_or("0").parse()?)
}

/// Waits until a metric's series has that value.
pub(crate) async fn metric_becomes(admin: SocketAddr, series: &str, expected: f64) {
    eventually(&format!("{series} {expected}"), SOON, async || {
        let value = metric(admin, series).await?;
        ensure!((value - expected).abs() < f64::EPSILON, "{value}");
        Ok(())
    })
    .await
    .unwrap();
}

/// Whole lines of a program's log that are JSON objects.
pub(crate) fn json_lines(log: &Log) -> Vec<Value> {
    let text = log.read().unwrap();
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Waits for a line of the log with that message.
pub(crate) async fn logged(log: &Log, message: &str) -> Value {
    eventually(&format!("the log says: {message}"), SOON, async || {
        let mut lines = json_lines(log).into_iter();
        lines.find(|line| line["message"] == message).context("not yet")
    })
    .await
    .unwrap()
}
