//! Steps in which something changes: sizes, images, and at last the agent itself.

use std::time::Duration;

use anyhow::ensure;
use http::StatusCode;
use tokio::time::Instant;

use super::super::human;
use crate::kubectl::PATIENCE;
use crate::screen::Screen;
use crate::stage::cluster::ClusterStage;
use crate::traffic::{RATE, Traffic};
use crate::wait::{until, until_every};

/// The agent that is changed.
const AGENT: &str = "echo-agent";

/// How many pods it is given.
const PODS: usize = 3;

/// The versions that its images say: that of the manifest, which is released with this program, and the next.
const OLD: &str = env!("CARGO_PKG_VERSION");
const NEW: &str = "2";

/// The image of the next version, which the testbed gives to the node.
const NEW_IMAGE: &str = "krypton.test/example-agent:2";

/// Calls that show how it is before and after a change: a second of them.
const SOME: u64 = RATE as u64;

/// Between two looks by kubectl.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// An agent whose image nobody has.
const TYPO: &str = "\
apiVersion: krypton.ai/v1alpha1
kind: Agent
metadata:
  name: typo-agent
spec:
  image: krypton.test/no-such-agent:1
";

/// Each condition on a line, without its message.
const CONDITIONS: &str = r#"jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}{"\n"}{end}"#;

/// The message that says why there is no pod.
const MESSAGE: &str = r#"jsonpath={.status.conditions[?(@.type=="Available")].message}"#;

/// The reason of the condition that says why there is no pod.
const PULL_FAILED: &str = r#"jsonpath={.status.conditions[?(@.type=="Available")].reason}"#;

/// `kubectl scale`, until calls reach every pod.
pub(super) async fn scaled(stage: &mut ClusterStage, screen: &Screen) -> anyhow::Result<String> {
    let mut traffic = Traffic::start(stage.ground.client.clone(), stage.ground.url(AGENT, "/traffic"));
    traffic.more(SOME).await?;
    let asked = Instant::now();
    stage.kubectl.show(screen, &["scale", &format!("agent/{AGENT}"), &format!("--replicas={PODS}")]).await?;
    traffic.until("calls to every pod", |tally| tally.pods() == PODS).await?;
    let took = asked.elapsed();
    let settled = format!("--for=jsonpath={{.status.readyReplicas}}={PODS}");
    stage.kubectl.run(&["wait", &settled, PATIENCE, "agent", AGENT]).await?;
    stage.kubectl.show(screen, &["get", "agent", AGENT]).await?;
    let tally = traffic.stop().await?;
    Ok(format!(
        "{PODS} pods take calls {} later; {} calls, {} failed",
        human(took),
        tally.calls,
        tally.failed
    ))
}

/// Another image, while calls go on: pods of the new one come before those of the old one go.
pub(super) async fn image_changed(stage: &mut ClusterStage, screen: &Screen) -> anyhow::Result<String> {
    let mut traffic = Traffic::start(stage.ground.client.clone(), stage.ground.url(AGENT, "/traffic"));
    screen.say(format_args!("{RATE} calls a second to {AGENT:?}, answered with x-agent-version: {OLD}"))?;
    traffic.until("calls to the old version", |tally| tally.of_version(OLD) >= SOME).await?;
    let patch = format!(r#"{{"spec":{{"image":"{NEW_IMAGE}"}}}}"#);
    let asked = Instant::now();
    stage.kubectl.show(screen, &["patch", "agent", AGENT, "--type=merge", "-p", &patch]).await?;
    traffic.until("an answer of the new version", |tally| tally.of_version(NEW) > 0).await?;
    screen
        .say(format_args!("{} later the first answer with x-agent-version: {NEW}", human(asked.elapsed())))?;
    stage.kubectl.show(screen, &["get", "pods", "-l", &selector()]).await?;
    stage.kubectl.show(screen, &["wait", "--for=condition=Ready", PATIENCE, "agent", AGENT]).await?;
    let took = asked.elapsed();

    // What was on its way to an old pod has ended after so many more.
    traffic.more(SOME).await?;
    let old = traffic.tally().of_version(OLD);
    traffic.more(SOME).await?;
    let tally = traffic.stop().await?;
    ensure!(tally.of_version(OLD) == old, "the old version is still called after the rollout");
    let (new, pods) = (tally.of_version(NEW), tally.pods());
    screen.say(format_args!(
        "answered by version {OLD}: {old}, by version {NEW}: {new}, by {pods} pods in all"
    ))?;
    ensure!(old + new == tally.calls, "some answers bear no version");
    let (calls, failed, slowest) = (tally.calls, tally.failed, human(tally.slowest));
    Ok(format!("rolled out in {}: {calls} calls, {failed} failed, slowest {slowest}", human(took)))
}

/// An agent that cannot run, and what it says about that.
pub(super) async fn image_missing(stage: &mut ClusterStage, screen: &Screen) -> anyhow::Result<String> {
    let kubectl = &stage.kubectl;
    screen.command("kubectl apply -f - <<END")?;
    for line in TYPO.lines() {
        screen.say(line)?;
    }
    screen.say("END")?;
    let applied = Instant::now();
    kubectl.run_with(&["apply", "-f", "-"], TYPO).await?;
    let told = format!("--for={PULL_FAILED}=ImagePullFailed");
    kubectl.run(&["wait", &told, PATIENCE, "agent", "typo-agent"]).await?;
    let took = applied.elapsed();
    kubectl.show(screen, &["get", "agent", "typo-agent"]).await?;
    kubectl.show(screen, &["get", "agent", "typo-agent", "-o", CONDITIONS]).await?;
    screen.say("and in words:")?;
    let message = kubectl.run(&["get", "agent", "typo-agent", "-o", MESSAGE]).await?;
    let mut speech = screen.speech();
    speech.say(&message)?;
    speech.end()?;
    ensure!(message.contains("krypton.test/no-such-agent:1"), "the message does not name the image");
    let events = [
        "get",
        "events",
        "--field-selector=involvedObject.kind=Agent,involvedObject.name=typo-agent",
        "-o",
        "custom-columns=TYPE:.type,REASON:.reason",
    ];
    until_every(LOOK_EVERY, "an Event about the image", async || {
        let events = kubectl.run(&events).await?;
        ensure!(events.contains("ImagePullFailed"), "{events}");
        Ok(())
    })
    .await?;
    kubectl.show(screen, &events).await?;

    let url = stage.ground.url("typo-agent", "/hello");
    screen.command(format_args!("curl {url}"))?;
    let answer = stage.ground.client.get(&url).await?;
    screen.say(format_args!("{}  {}", answer.status, answer.text().trim_end()))?;
    ensure!(answer.status == StatusCode::SERVICE_UNAVAILABLE, "expected 503");
    kubectl.show(screen, &["delete", "agent", "typo-agent"]).await?;
    Ok(format!("told {} after kubectl apply began, in the status and as an Event", human(took)))
}

/// `kubectl delete`: calls find nobody, then nothing is left.
pub(super) async fn deleted(stage: &mut ClusterStage, screen: &Screen) -> anyhow::Result<String> {
    let asked = Instant::now();
    stage.kubectl.show(screen, &["delete", "agent", AGENT]).await?;
    let url = stage.ground.url(AGENT, "/hello");
    screen.command(format_args!("curl {url}"))?;
    let answer = until("the answer that there is no such agent", async || {
        let answer = stage.ground.client.get(&url).await?;
        ensure!(answer.status == StatusCode::NOT_FOUND, "{}", answer.status);
        Ok(answer)
    })
    .await?;
    let unknown = asked.elapsed();
    screen.say(format_args!("{}  {}", answer.status, answer.text().trim_end()))?;

    let kinds = "deployments,replicasets,services,serviceaccounts,pods";
    let all = ["get", kinds, "-l", &selector(), "-o", "name"];
    screen.say("Kubernetes' garbage collector takes the rest. It looks for new kinds every 30 s, and may")?;
    screen.say("not know Agents yet; pods are told to stop, and finish what they are answering")?;
    until_every(LOOK_EVERY, "nothing of the agent left", async || {
        let left = stage.kubectl.run(&all).await?;
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .await?;
    let gone = asked.elapsed();
    stage.kubectl.show(screen, &["get", "agents"]).await?;
    Ok(format!("404 after {}; pods and all else is gone after {}", human(unknown), human(gone)))
}

/// Of what belongs to the agent.
fn selector() -> String {
    format!("krypton.ai/agent={AGENT}")
}
