//! `kubectl-krypton` on an installed release: what it says of one that is healthy, that it reaches gateways and agents
//! through the API server, and that it names what is wrong.

use std::collections::BTreeSet;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use http::Method;
use krypton_e2e::client::{Answer, full, keeping_client};
use krypton_e2e::cluster::{Cluster, Namespace};
use krypton_e2e::lockstep::Base;
use krypton_e2e::node::images::AGENT;
use krypton_e2e::node::krypton::TAG;
use krypton_e2e::programs::{Ran, kubectl_krypton, kubectl_krypton_command};
use krypton_e2e::wait::eventually;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::conditions::condition_becomes;
use crate::front::{Front, HTTP_ROUTE, INGRESS, keys};
use crate::objects::put;
use crate::support::{
    RELEASE, SOON, busy_agent, entrance, install_with, is_answered, path, pods_are, values_with, with_node,
};

/// What `doctor` found, by `(level, name)`, with what it printed.
struct Diagnosis {
    found: BTreeSet<(String, String)>,
    findings: Value,
    status: Option<i32>,
}

// === impl Diagnosis ===

impl Diagnosis {
    async fn of(cluster: &Cluster, args: &[&str]) -> Result<Self> {
        let ran = kubectl_krypton(cluster, &[&["doctor", "--output=json"], args].concat()).await?;
        let answer: Value = serde_json::from_str(&ran.answer).with_context(|| format!("{ran:?}"))?;
        let findings = answer["findings"].as_array().with_context(|| format!("{ran:?}"))?;
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        let found = findings.iter().map(|one| (text(one, "level"), text(one, "name"))).collect();
        Ok(Self { found, findings: answer["findings"].clone(), status: ran.status })
    }

    /// Names of those of that level.
    fn of_level(&self, level: &str) -> BTreeSet<&str> {
        self.found.iter().filter(|(found, _)| found == level).map(|(_, name)| name.as_str()).collect()
    }

    /// What it says of the finding called `name`, and what to do.
    fn sentence(&self, name: &str) -> String {
        let mut all = self.findings.as_array().into_iter().flatten();
        let found = all.find(|one| one["name"] == name);
        found.map(|one| format!("{} {} {}", one["about"], one["message"], one["todo"])).unwrap_or_default()
    }
}

#[tokio::test]
async fn the_plugin_finds_a_healthy_install_well_and_names_what_is_wrong() {
    with_node(async |namespace| {
        let cluster = namespace.cluster();
        let front = Front::start(namespace).await.unwrap();
        let helm = install_with(cluster, keys(namespace)).await;
        put(namespace, busy_agent("echo", AGENT, json!({ "minReplicas": 1 }))).await.unwrap();
        is_answered(namespace, "echo").await;
        for host in [INGRESS, HTTP_ROUTE] {
            front.is_answered(namespace, "echo", host).await;
        }
        condition_becomes(namespace, "echo", "Ready", "True", "Ready").await;
        let gateways = pods_are(cluster, "gateway", 2, TAG).await;
        pods_are(cluster, "controller", 2, TAG).await;

        a_healthy_install_is_well(cluster, &front).await;
        routes_are_those_of_every_gateway(namespace, &gateways).await;
        a_call_through_the_api_server_streams(namespace).await;

        let mut wrong = keys(namespace);
        wrong["httpRoute"]["parentRefs"] = json!([{ "name": "missing" }]);
        wrong["ingress"]["annotations"] = json!({ "projectcontour.io/response-timeout": "15s" });
        helm.upgrade(RELEASE, &values_with(TAG, wrong), &[]).await.unwrap();
        put(namespace, busy_agent("slow", AGENT, json!({ "minReplicas": 1, "timeout": "330s" })))
            .await
            .unwrap();
        condition_becomes(namespace, "slow", "Ready", "True", "Ready").await;
        what_is_wrong_is_named(namespace).await;
    })
    .await;
}

async fn a_healthy_install_is_well(cluster: &Cluster, front: &Front) {
    let url = format!("http://{INGRESS}:{}/", front.address().port());
    let resolve = format!("{INGRESS}:{}:{}", front.address().port(), front.address().ip());
    let public = ["--quick", "--url", &url, "--resolve", &resolve];
    // What Deployments say of themselves, and Contour of the route, follows a moment later.
    let diagnosis = eventually("doctor finds all well", SOON, async || {
        let diagnosis = Diagnosis::of(cluster, &public).await?;
        ensure!(diagnosis.status == Some(0), "{:#}", diagnosis.findings);
        Ok(diagnosis)
    })
    .await
    .unwrap();
    let good = diagnosis.of_level("good");
    for name in [
        "Available",
        "GatewaysReady",
        "TablesAgree",
        "Leader",
        "Definition",
        "DiscoveryEncrypted",
        "Certificate",
        "AgentsReady",
        "Ingress",
        "HTTPRoute",
        "Streaming",
    ] {
        assert!(good.contains(name), "{name} is not found good: {:#}", diagnosis.findings);
    }
    // What only Contour's owner can set, whoever it is.
    assert_eq!(diagnosis.of_level("note"), BTreeSet::from(["NotOfTheRoute"]), "{:#}", diagnosis.findings);
    let Ran { status, answer, .. } = kubectl_krypton(cluster, &["doctor"]).await.unwrap();
    assert!(status == Some(0) && answer.ends_with("All is well.\n"), "{answer}");
}

async fn routes_are_those_of_every_gateway(namespace: &Namespace, gateways: &[String]) {
    let ran = kubectl_krypton(namespace.cluster(), &["routes", "--output=json"]).await.unwrap();
    assert_eq!(ran.status, Some(0), "{ran:?}");
    let view: Value = serde_json::from_str(&ran.answer).unwrap();
    let agent = &view["agents"][0];
    assert_eq!(agent["name"], format!("{}/echo", namespace.name()), "{view:#}");
    assert_eq!(agent["programmed"], "True", "{view:#}");
    for gateway in gateways {
        assert_eq!(agent["routes"][gateway]["endpointCount"], 1, "{view:#}");
    }
    let ran = kubectl_krypton(namespace.cluster(), &["routes", "--endpoints"]).await.unwrap();
    for name in gateways {
        assert!(ran.answer.contains(name.as_str()), "{}", ran.answer);
    }
}

/// The agent sends an event only after the one before was confirmed, so one that is held back is the last.
async fn a_call_through_the_api_server_streams(namespace: &Namespace) {
    const EVENTS: u64 = 5;
    let base = Base::new(entrance(namespace.cluster()).await.unwrap(), &path(namespace, "echo"));
    let target = format!("{}/echo/stream/lockstep?id=plugin&events={EVENTS}&format=sse", namespace.name());
    let mut call = kubectl_krypton_command(namespace.cluster()).unwrap();
    let call = call.args(["call", &target, "--request", "POST"]).stdout(Stdio::piped());
    let mut call = call.spawn().unwrap();
    let mut lines = BufReader::new(call.stdout.take().unwrap()).lines();
    for n in 1..=EVENTS {
        let line = timeout(SOON, lines.next_line()).await.expect("an event is held back").unwrap();
        let event: Value = serde_json::from_str(&line.expect("the answer ended too early")).unwrap();
        assert_eq!(event["n"], n);
        let confirm = base.request(Method::POST, &format!("/stream/confirm?id=plugin&n={n}")).unwrap();
        let answer = keeping_client().request(confirm.body(full("")).unwrap()).await.unwrap();
        assert_eq!(Answer::read(answer).await.unwrap().status, 200);
    }
    assert_eq!(timeout(SOON, lines.next_line()).await.unwrap().unwrap(), None);
    assert!(timeout(SOON, call.wait()).await.unwrap().unwrap().success());
}

async fn what_is_wrong_is_named(namespace: &Namespace) {
    let cluster = namespace.cluster();
    let diagnosis = eventually("doctor has nothing else to say", SOON, async || {
        let diagnosis = Diagnosis::of(cluster, &[]).await?;
        ensure!(diagnosis.status == Some(1), "{:#}", diagnosis.findings);
        let (problems, warnings) = (diagnosis.of_level("problem"), diagnosis.of_level("warning"));
        ensure!(problems == BTreeSet::from(["NoGateway"]), "{:#}", diagnosis.findings);
        let expected = BTreeSet::from(["TimeoutReachesIngress", "WrongSetting"]);
        ensure!(warnings == expected, "{:#}", diagnosis.findings);
        Ok(diagnosis)
    })
    .await
    .unwrap();
    for (name, words) in [
        ("NoGateway", ["HTTPRoute krypton-system/krypton-gateway", "missing", "httpRoute.parentRefs"]),
        ("TimeoutReachesIngress", ["/slow", "5m30s", "ingress.readTimeout"]),
        ("WrongSetting", ["Ingress krypton-system/krypton-gateway", "15s", "infinity"]),
    ] {
        let sentence = diagnosis.sentence(name);
        assert!(words.iter().all(|word| sentence.contains(word)), "{name}: {sentence}");
    }
    // The controllers say the same of the Agent.
    eventually("an Event warns of the timeout", SOON, async || {
        let reasons =
            ["get", "events", "--namespace", namespace.name(), "--output", "jsonpath={.items[*].reason}"];
        let reasons = cluster.kubectl(&reasons, "").await?;
        ensure!(reasons.contains("TimeoutReachesIngress"), "{reasons}");
        Ok(())
    })
    .await
    .unwrap();
}
