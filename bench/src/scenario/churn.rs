//! Agents come and go through a real API server while others are called.
//!
//! Owns: the API server, the agents in it, and how long each new one takes from its write to its first answer. The
//! controller does not lead: somebody else holds its Lease, so it makes no Deployments. There is no node that would run
//! them; endpoints are written here, at addresses of a bridge, since the API refuses those of loopback.

mod objects;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use indicatif::ProgressBar;
use krypton_e2e::bridge::Bridge;
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::process::{Program, Running};
use krypton_e2e::state::RunDir;
use tokio::task::JoinSet;

use super::catalogue::{Call, SMALL, Variant};
use super::generator::Load;
use super::measure::{self, Reading, to_f64};
use super::rounds::{self, Subject};
use super::stage::{Plan, Stage, start_origin};
use crate::load::LoadReport;
use crate::procfs::pin_children;
use crate::programs::{CONTROLLER, GATEWAY};
use crate::result::{Metric, Sample, ScenarioResult};
use crate::routes::names;
use objects::Objects;

/// Between two new agents.
const EVERY: Duration = Duration::from_millis(100);

/// Between two calls of an agent that is not there yet: the resolution of what is measured.
const PACE: Duration = Duration::from_millis(1);

/// How long a new agent may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long all agents may take to be served after a start.
const WHOLE: Duration = Duration::from_mins(2);

/// Agents that are called.
const CALLED: usize = 50;

type Caller = Client<HttpConnector, Empty<bytes::Bytes>>;

/// All that runs.
struct World {
    objects: Objects,
    gateway: Running,
    address: SocketAddr,
    caller: Caller,
    agents: usize,
    // Below: what it needs until its end, in the order of ending.
    _controller: Running,
    _control_plane: ControlPlane,
    _origin: crate::origin::Origin,
    _bridge: Bridge,
}

/// What came of the new agents.
#[derive(Default)]
struct Churned {
    milliseconds: Vec<f64>,
    /// Those that did not answer in time.
    late: usize,
}

/// Runs it.
///
/// # Errors
/// Without the programs of Kubernetes, or when something does not work as it should.
pub(super) async fn run(
    stage: &mut Stage,
    found: &mut ScenarioResult,
    variants: &[Variant],
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    stage.keep_only(&[]).await;
    let agents = stage.plan.agents;
    let mut worlds = Vec::new();
    for variant in variants {
        bar.set_message(format!("{}: an API server with {agents} agents", found.name));
        worlds.push((*variant, World::build(&stage.plan, *variant).await?, None));
    }
    found.notes.push(
        "CPU for each call is counted over the calls at the rate; those that look for a new agent, one a millisecond \
         until it answers, are in the CPU and not in the count. From change to use counts from before the Agent is \
         written, and its endpoints after it."
            .to_owned(),
    );
    rounds::run(stage, found, &Subject::each(variants), bar, async |stage, Subject { variant, .. }| {
        let Some((_, world, capacity)) = worlds.iter_mut().find(|(of, ..)| *of == variant) else {
            return Ok(None);
        };
        let capacity = match capacity {
            Some(capacity) => *capacity,
            None => *capacity.insert(world.capacity(&stage.plan).await?),
        };
        Ok(Some(world.measure(&stage.plan, capacity * 0.8).await?))
    })
    .await
}

// === impl World ===

impl World {
    async fn build(plan: &Plan, variant: Variant) -> anyhow::Result<Self> {
        let bridge = Bridge::create()?;
        let addresses = [bridge.add(10)?, bridge.add(11)?, bridge.add(12)?];
        let origin = start_origin(&addresses, &plan.load_cores, false).await?;
        // It has more to do than the gateway. Nothing else starts on this thread meanwhile.
        let pinned = pin_children(&plan.load_cores)?;
        let control_plane = ControlPlane::start().await;
        drop(pinned);
        let control_plane = control_plane?;
        let cluster = control_plane.cluster().await?;
        cluster.install_agent_crd().await?;
        let objects = Objects::new(cluster.client(), origin.addresses().to_vec());
        objects.hold_lease().await?;
        objects.write_all(plan.agents).await?;

        let programs = plan.programs_of(variant.build);
        let any = "127.0.0.1:0";
        let controller = Program::new(CONTROLLER, &programs.controller)
            .env("KUBECONFIG", control_plane.kubeconfig())
            .args(["--discovery-listen", any, "--admin-listen", any]);
        let mut controller = start(controller, &plan.load_cores)?;
        let discovery = listening(&mut controller, "discovery").await?;
        let gateway = Program::new(GATEWAY, &programs.gateway)
            .args(["--listen", any, "--admin-listen", any, "--discovery", &format!("http://{discovery}")])
            .args(["--threads", &plan.proxy_cores.len().to_string()]);
        let mut gateway = start(gateway, &plan.proxy_cores)?;
        let address = listening(&mut gateway, "http").await?;
        let caller = Client::builder(TokioExecutor::new()).build_http();
        let world = Self {
            objects,
            gateway,
            address,
            caller,
            agents: plan.agents,
            _controller: controller,
            _control_plane: control_plane,
            _origin: origin,
            _bridge: bridge,
        };
        for n in 0..plan.agents {
            ensure!(
                first_answer(&world.caller, &world.url(n), WHOLE).await.is_some(),
                "agent {n} is not served"
            );
        }
        Ok(world)
    }

    fn url(&self, agent: usize) -> String {
        let (namespace, name) = names(agent);
        format!("http://{}/v1/agents/{namespace}/{name}/bytes/1024", self.address)
    }

    fn load(&self, plan: &Plan) -> Load {
        let call = Call { connections: plan.shrunk(SMALL.connections), ..SMALL };
        let load = Load::calls(call, call.connections, &plan.load_cores).time(plan.duration, plan.warm_up);
        let called = self.agents.min(CALLED);
        (0..called).fold(load, |load, n| load.url(&self.url(n * self.agents / called)))
    }

    /// What the gateway can do while nothing changes, in calls a second.
    async fn capacity(&self, plan: &Plan) -> anyhow::Result<f64> {
        let mut generating = self.load(plan).start()?;
        generating.until("measuring").await?;
        generating.until("measured").await?;
        let report: LoadReport = generating.report().await?;
        Ok(to_f64(report.completed) / report.seconds)
    }

    async fn measure(&mut self, plan: &Plan, rate: f64) -> anyhow::Result<Sample> {
        let pids = [self.gateway.pid()];
        let mut generating = self.load(plan).rate(Some(rate)).start()?;
        generating.until("measuring").await?;
        let before = Reading::of_pids(&pids)?;
        // Side by side: an agent that is late must not stretch the window.
        let window = async {
            generating.until("measured").await?;
            Ok(Reading::of_pids(&pids)?.since(&before, &plan.proxy_cores))
        };
        let (churned, window) = tokio::try_join!(self.churn(plan.duration), window)?;
        let mut sample = measure::calls(&generating.report().await?, &window);
        ensure!(!churned.milliseconds.is_empty(), "no new agent was served within {} s", DEADLINE.as_secs());
        let failed = sample.figures.get(&Metric::Failed).copied().unwrap_or_default();
        sample.figures.extend(BTreeMap::from([
            (Metric::PropagationP50Ms, quantile(&churned.milliseconds, 0.5)),
            (Metric::PropagationP99Ms, quantile(&churned.milliseconds, 0.99)),
            (Metric::Failed, failed + to_f64(churned.late)),
        ]));
        Ok(sample)
    }

    /// Makes agents and takes them away again for so long.
    async fn churn(&self, time: Duration) -> anyhow::Result<Churned> {
        let (began, mut due) = (tokio::time::Instant::now(), tokio::time::interval(EVERY));
        let (mut agents, mut churned) = (JoinSet::new(), Churned::default());
        for n in self.agents.. {
            due.tick().await;
            if began.elapsed() >= time {
                break;
            }
            let (objects, caller, url) = (self.objects.clone(), self.caller.clone(), self.url(n));
            agents.spawn(async move {
                let written = Instant::now();
                objects.write(n).await?;
                let answered = first_answer(&caller, &url, DEADLINE).await;
                objects.delete(n).await?;
                anyhow::Ok(answered.map(|at| at.duration_since(written)))
            });
        }
        while let Some(agent) = agents.join_next().await {
            match agent?? {
                Some(took) => churned.milliseconds.push(took.as_secs_f64() * 1000.0),
                None => churned.late += 1,
            }
        }
        Ok(churned)
    }
}

/// Calls until the answer is 200; when that was.
async fn first_answer(caller: &Caller, url: &str, within: Duration) -> Option<Instant> {
    let uri: http::Uri = url.parse().ok()?;
    let began = Instant::now();
    while began.elapsed() < within {
        if let Ok(answer) = caller.get(uri.clone()).await {
            let status = answer.status();
            answer.into_body().collect().await.ok();
            if status == http::StatusCode::OK {
                return Some(Instant::now());
            }
        }
        tokio::time::sleep(PACE).await;
    }
    None
}

fn start(program: Program, cores: &[usize]) -> anyhow::Result<Running> {
    let _pinned = pin_children(cores)?;
    program.start(RunDir::of_this_process()?)
}

async fn listening(running: &mut Running, name: &str) -> anyhow::Result<SocketAddr> {
    let (log, prefix) = (running.log(), format!("listening {name}="));
    running
        .until(&format!("it prints `{prefix}ADDRESS`"), WHOLE, async || {
            let log = log.read()?;
            let (whole, _) = log.rsplit_once('\n').context("it says nothing yet")?;
            let mut found = whole.lines().filter_map(|line| line.strip_prefix(&prefix));
            Ok(found.next().context("no such line")?.parse()?)
        })
        .await
}

/// Nearest rank.
fn quantile(values: &[f64], quantile: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank is small and not negative"
    )]
    let rank = (to_f64(sorted.len()) * quantile).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}
