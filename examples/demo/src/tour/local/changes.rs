//! Steps in which something changes: an agent comes, a pod goes, the controller dies.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::human;
use crate::client::{Events, instance};
use crate::manifest::{ECHO_AGENT, Manifest, WRITER};
use crate::screen::Screen;
use crate::stage::local::{LocalStage, WRITER_FILE};
use crate::traffic::{RATE, Tally, Traffic};
use crate::wait::until;

/// Calls that show how it is before and after a change: a second of them.
const SOME: u64 = RATE as u64;

/// Events of a long answer: three seconds, enough to outlast what is done to the pod before it is told to stop.
const LONG: u64 = 75;

/// A manifest is copied; how long until its agent answers?
pub(super) async fn agent_added(stage: &mut LocalStage, screen: &Screen) -> anyhow::Result<String> {
    let address = stage.start_newcomer().await?;
    let url = stage.ground.url("echo-agent", "/hello");
    screen.say(format_args!("its pod runs at {address}, but nobody has heard of the agent:"))?;
    screen.command(format_args!("curl {url}"))?;
    let unknown = stage.ground.client.get(&url).await?;
    screen.say(format_args!("{}  {}", unknown.status, unknown.text().trim_end()))?;
    ensure!(unknown.status == StatusCode::NOT_FOUND, "expected 404");
    screen.command(format_args!("cp examples/echo-agent.yaml {}/", stage.manifests.path().display()))?;

    let copied = Instant::now();
    stage.manifests.put("echo-agent.yaml", ECHO_AGENT)?;
    until("the new agent answering", async || {
        stage.ground.client.get(&url).await?.instance()?;
        Ok(())
    })
    .await?;
    Ok(format!("first 200 after {}", human(copied.elapsed())))
}

/// One of two pods goes as Kubernetes takes pods: marked, told to stop, gone. Calls go on all the time, and so
/// does an answer that it is giving.
pub(super) async fn pod_taken_away(stage: &mut LocalStage, screen: &Screen) -> anyhow::Result<String> {
    let mut traffic = Traffic::start(stage.ground.client.clone(), stage.ground.url("writer", "/traffic"));
    screen.say(format_args!("{RATE} calls a second to \"writer\", and one long answer from writer-2"))?;
    let spread = |tally: &Tally| tally.of_pod("writer-1") > 0 && tally.of_pod("writer-2") > 0;
    traffic.until("calls to both pods", spread).await?;
    traffic.more(SOME).await?;
    let mut answer = long_answer(stage, "writer-2").await?;

    screen.say("the EndpointSlice of writer-2 says terminating: true")?;
    stage.writer.set("writer-2", "ready", "false")?;
    stage.writer.set("writer-2", "terminating", "true")?;
    stage.manifests.put(WRITER_FILE, &stage.writer.text())?;
    let marked = Instant::now();
    stage.pods_known("writer", &["writer-1"]).await?;
    let known = human(marked.elapsed());
    screen.say(format_args!(
        "the gateway knows {known} later; now SIGTERM, in the middle of the long answer"
    ))?;

    let stopped = SystemTime::now();
    let stopping = stage.ground.processes.terminate("writer-2");
    let (spoken, status) = tokio::try_join!(hear_out(&mut answer), stopping)?;
    ensure!(status.success(), "writer-2 ended with {status}");
    let went_on = spoken.duration_since(stopped).context("the long answer was not long enough")?;
    stage.writer.remove("writer-2")?;
    stage.manifests.put(WRITER_FILE, &stage.writer.text())?;
    let went_on = human(went_on);
    screen.say(format_args!("it spoke on to the end, {went_on} more, and ended; its slice is deleted"))?;
    traffic.more(SOME).await?;

    let tally = traffic.stop().await?;
    let (one, two) = (tally.of_pod("writer-1"), tally.of_pod("writer-2"));
    screen.say(format_args!("answered by writer-1: {one}, by writer-2: {two}"))?;
    Ok(format!("{} calls, {} failed, slowest {}", tally.calls, tally.failed, human(tally.slowest)))
}

/// The controller is killed; calls go on. It comes back and is heard at once: a pod that came meanwhile is used.
pub(super) async fn controller_killed(stage: &mut LocalStage, screen: &Screen) -> anyhow::Result<String> {
    let mut traffic = Traffic::start(stage.ground.client.clone(), stage.ground.url("writer", "/traffic"));
    traffic.more(SOME).await?;
    stage.ground.processes.kill("controller").await?;
    let killed = traffic.tally().calls;
    screen.say("kill -9: no controller any more")?;
    traffic.more(SOME).await?;

    let address = stage.start_agent("writer-3").await?;
    let mut writer = Manifest::new(WRITER);
    writer.set("writer-1", "port", &stage.ports.writers[0].port().to_string())?;
    writer.rename("writer-2", "writer-3")?;
    writer.set("writer-3", "port", &address.port().to_string())?;
    stage.manifests.put(WRITER_FILE, &writer.text())?;
    stage.writer = writer;
    screen.say("a new pod, writer-3, comes meanwhile: nobody tells the gateway")?;
    traffic.more(SOME).await?;
    let before = traffic.tally();
    ensure!(before.of_pod("writer-3") == 0, "writer-3 was called before anybody could know of it");

    stage.start_controller().await?;
    let started = Instant::now();
    traffic.until("calls to writer-3", |tally| tally.of_pod("writer-3") > 0).await?;
    let reconnected = started.elapsed();
    screen.say(format_args!(
        "{} calls without a controller; it starts again, and {} later writer-3 gets calls",
        before.calls - killed,
        human(reconnected)
    ))?;
    traffic.more(SOME).await?;
    let tally = traffic.stop().await?;
    Ok(format!("{} calls, {} failed, slowest {}", tally.calls, tally.failed, human(tally.slowest)))
}

/// Begins a long answer that `pod` gives.
async fn long_answer(stage: &LocalStage, pod: &str) -> anyhow::Result<Events> {
    let url = stage.ground.url("writer", &format!("/long?sse=1&chunks={LONG}&pace=40ms"));
    until("an answer from that pod", async || {
        let mut answer = stage.ground.client.events(&url, &[], &json!({})).await?;
        answer.next().await?.context("it is empty")?;
        ensure!(instance(&answer.headers)? == pod, "another pod answered");
        Ok(answer)
    })
    .await
}

/// Reads a long answer to its end; gives the time when the agent spoke the last of it.
async fn hear_out(answer: &mut Events) -> anyhow::Result<SystemTime> {
    let mut last = Value::Null;
    while let Some(event) = answer.next().await? {
        last = event;
    }
    ensure!(last["seq"] == LONG - 1, "the long answer broke off after {last}");
    let spoken = last["sentAtUs"].as_u64().context("its events bear no time")?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_micros(spoken))
}
