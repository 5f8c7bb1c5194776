//! `kubectl-krypton` on a real API server: what it takes away of the Go system's traces, what it leaves, and that it
//! finds nothing the second time.

use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::ensure;
use krypton_e2e::cluster::{Cluster, Namespace, shared};
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::programs::{kubectl_krypton, kubectl_krypton_command};
use krypton_e2e::wait::eventually;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::crd::{agents, try_create};
use crate::objects::agent;
use crate::support::SOON;
use crate::upstream::{install_upstreams_crd, store, stored};

/// What a run printed, and how it ended.
struct Ran {
    status: Option<i32>,
    text: String,
}

async fn cli(cluster: &Cluster, args: &[&str]) -> Ran {
    let ran = kubectl_krypton(cluster, args).await.unwrap();
    Ran { status: ran.status, text: ran.answer + &ran.said }
}

/// The Agent as it is stored.
async fn get(namespace: &Namespace, name: &str) -> Value {
    serde_json::to_value(agents(namespace).get(name).await.unwrap()).unwrap()
}

fn fields(agent: &Value) -> Vec<&str> {
    agent["spec"].as_object().unwrap().keys().map(String::as_str).collect()
}

/// Ours takes the place of the Go system's, as the chart's upgrade does it.
async fn install_ours(namespace: &Namespace) {
    namespace.cluster().install_agent_crd().await.unwrap();
    eventually("ours is in use", SOON, async || {
        ensure!(try_create(namespace, "other", json!({ "minReplicas": 0 })).await.is_err());
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn what_the_go_system_stored_goes_in_two_runs_and_no_more() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    install_upstreams_crd(&cluster).await;
    let test = cluster.with_namespace(async |namespace| {
        for (name, spec) in stored() {
            store(namespace, name, spec).await;
        }
        // One that says of itself what upstream would have put there.
        store(namespace, "wished", json!({ "timeout": "60s", "minReplicas": 1 })).await;
        let before = get(namespace, "minimal").await;

        let dry = cli(&cluster, &["migrate"]).await;
        assert_eq!(dry.status, Some(1), "{}", dry.text);
        assert!(
            dry.text.contains("+ metadata.annotations[meta.helm.sh/release-name]: krypton"),
            "{}",
            dry.text
        );
        assert!(dry.text.contains("would put them back at once"), "{}", dry.text);
        assert!(dry.text.contains("Nothing was written."), "{}", dry.text);
        assert_eq!(get(namespace, "minimal").await, before, "a dry run writes nothing");

        // Nobody runs the Go system here, so finalizers may go before the upgrade.
        let first = cli(&cluster, &["migrate", "--yes"]).await;
        assert_eq!(first.status, Some(0), "{}", first.text);
        assert_eq!(
            get(namespace, "minimal").await["spec"],
            before["spec"],
            "defaults wait for the definition"
        );
        let crd = cluster.kubectl(&["get", "crd", "agents.krypton.ai", "--output=json"], "").await.unwrap();
        let crd: Value = serde_json::from_str(&crd).unwrap();
        let annotations = &crd["metadata"]["annotations"];
        assert_eq!(annotations["meta.helm.sh/release-name"], "krypton");
        assert_eq!(annotations["meta.helm.sh/release-namespace"], "krypton-system");
        assert_eq!(crd["metadata"]["labels"]["app.kubernetes.io/managed-by"], "Helm");

        install_ours(namespace).await;
        let second = cli(&cluster, &["migrate", "--yes"]).await;
        assert_eq!(second.status, Some(0), "{}", second.text);
        its_owners_wishes_are_left(namespace).await;

        let third = cli(&cluster, &["migrate"]).await;
        assert_eq!((third.status, third.text.trim()), (Some(0), "Nothing to do."));
        let third = cli(&cluster, &["migrate", "--yes"]).await;
        assert_eq!((third.status, third.text.trim()), (Some(0), "Nothing to do."));
    });
    test.await.unwrap();
}

async fn its_owners_wishes_are_left(namespace: &Namespace) {
    // What the schema stores is ours as well.
    let always = ["image", "imagePullPolicy", "mode", "port", "protocol"];
    assert_eq!(fields(&get(namespace, "minimal").await), always);
    let wished = get(namespace, "wished").await;
    assert_eq!((&wished["spec"]["timeout"], &wished["spec"]["minReplicas"]), (&json!("60s"), &json!(1)));
    assert_eq!(wished["spec"].get("concurrency"), None);
    let serverless = get(namespace, "serverless").await;
    assert_eq!(serverless["spec"]["minReplicas"], 0);
    assert_eq!(serverless["spec"]["concurrency"], 1);
    assert_eq!(serverless["spec"]["scaleToZeroAfter"], "1h0m0s");
    assert_eq!(serverless["spec"].get("timeout"), None);
    for (name, _) in stored() {
        assert_eq!(get(namespace, name).await["metadata"].get("finalizers"), None, "{name}");
    }
}

/// The Go system's manager would stop pods for want of its defaults: while it runs, they stay.
#[tokio::test]
async fn while_the_go_system_runs_agents_are_left() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    install_upstreams_crd(&cluster).await;
    let test = cluster.with_namespace(async |namespace| {
        store(namespace, "minimal", json!({})).await;
        let labels = json!({ "app.kubernetes.io/name": "krypton", "app.kubernetes.io/component": "manager" });
        let manager = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "krypton-manager", "labels": labels },
            "spec": { "selector": { "matchLabels": labels }, "template": { "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "manager", "image": "manager:1" }] } } },
        });
        namespace.apply(&manager.to_string()).await.unwrap();
        let before = get(namespace, "minimal").await;
        let waits = format!("while the Go system's manager runs ({}/krypton-manager)", namespace.name());
        eventually("its pods are counted", SOON, async || {
            let dry = cli(&cluster, &["migrate"]).await;
            ensure!(dry.text.contains(&waits), "{}", dry.text);
            Ok(())
        })
        .await
        .unwrap();
        let run = cli(&cluster, &["migrate", "--yes"]).await;
        assert_eq!(run.status, Some(0), "{}", run.text);
        assert_eq!(get(namespace, "minimal").await, before);
        let rest = cli(&cluster, &["migrate"]).await;
        assert!(rest.text.contains(&waits) && rest.text.contains("Nothing to do now."), "{}", rest.text);
        assert_eq!(rest.status, Some(0), "what waits is no failure");
    });
    test.await.unwrap();
}

/// An Agent with a default of the Go system, of which nothing tells what was applied.
async fn create(namespace: &Namespace, name: &str) {
    let manifest = agent(name, json!({ "timeout": "60s" })).to_string();
    let create = ["create", "--namespace", namespace.name(), "--filename=-"];
    namespace.cluster().kubectl(&create, &manifest).await.unwrap();
}

#[tokio::test]
async fn what_nothing_tells_of_is_left_unless_asked_for() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        create(namespace, "made").await;
        let careful = cli(&cluster, &["migrate", "--only", "defaults", "--yes"]).await;
        assert!(careful.text.contains("nothing tells what was applied"), "{}", careful.text);
        assert_eq!(get(namespace, "made").await["spec"]["timeout"], "60s");
        let bold = cli(&cluster, &["migrate", "--only", "defaults", "--yes", "--unrecorded"]).await;
        assert_eq!(bold.status, Some(0), "{}", bold.text);
        assert_eq!(get(namespace, "made").await["spec"].get("timeout"), None);
    });
    test.await.unwrap();
}

/// A write that was planned on an older version of the object changes nothing.
#[tokio::test]
async fn a_write_is_bound_to_the_version_that_was_read() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        namespace.apply(&agent("a", json!({ "timeout": "60s" })).to_string()).await.unwrap();
        let old = agents(namespace).get("a").await.unwrap().resource_version().unwrap();
        namespace.apply(&agent("a", json!({ "timeout": "61s" })).to_string()).await.unwrap();
        let patch = json!({ "metadata": { "resourceVersion": old }, "spec": { "timeout": null } });
        let refused = agents(namespace).patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await;
        assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 409));
    });
    test.await.unwrap();
}

/// `migrate --ask` of defaults, with a terminal to answer on.
struct Asked {
    child: Child,
    out: BufReader<ChildStdout>,
    terminal: File,
}

impl Asked {
    fn start(namespace: &Namespace) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let other_end = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let other_end = File::options().read(true).write(true).open(other_end).unwrap();
        let mut child = kubectl_krypton_command(namespace.cluster())
            .unwrap()
            .args(["migrate", "--ask", "--only", "defaults", "--unrecorded", "-n", namespace.name()])
            .stdin(other_end)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out, terminal: File::from(terminal) }
    }

    /// What it prints until it waits for an answer.
    async fn question(&mut self) -> String {
        let mut text = Vec::new();
        timeout(SOON, self.out.read_until(b'?', &mut text)).await.expect("a question").unwrap();
        String::from_utf8(text).unwrap()
    }

    /// Answers; how it ended, and what it printed from then on.
    async fn answer(mut self, answer: &str) -> Ran {
        self.terminal.write_all(answer.as_bytes()).unwrap();
        let mut text = String::new();
        timeout(SOON, self.out.read_to_string(&mut text)).await.expect("its end").unwrap();
        Ran { status: timeout(SOON, self.child.wait()).await.unwrap().unwrap().code(), text }
    }
}

/// A person takes their time over the question; what somebody writes meanwhile is kept.
#[tokio::test]
async fn what_changes_while_it_is_asked_about_is_left() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        for name in ["changed", "left"] {
            create(namespace, name).await;
        }
        let mut asked = Asked::start(namespace);
        let question = asked.question().await;
        assert!(question.contains("2 objects to write.\nWrite 2?"), "{question}");
        let before = [get(namespace, "changed").await, get(namespace, "left").await];
        let no = asked.answer("n\n").await;
        assert_eq!(no.status, Some(1));
        assert!(no.text.contains("Nothing was written."), "{}", no.text);
        assert_eq!([get(namespace, "changed").await, get(namespace, "left").await], before);

        let mut asked = Asked::start(namespace);
        asked.question().await;
        let patch = Patch::Merge(json!({ "spec": { "timeout": "61s" } }));
        agents(namespace).patch("changed", &PatchParams::default(), &patch).await.unwrap();
        let yes = asked.answer("y\n").await;
        assert_eq!(yes.status, Some(1), "{}", yes.text);
        let told = format!("Agent {}/changed changed meanwhile and was left as it is", namespace.name());
        assert!(yes.text.contains(&told) && yes.text.contains("1 of 2 written."), "{}", yes.text);
        assert_eq!(get(namespace, "changed").await["spec"]["timeout"], "61s");
        assert_eq!(get(namespace, "left").await["spec"].get("timeout"), None);
    });
    test.await.unwrap();
}

#[tokio::test]
async fn without_a_terminal_nobody_is_asked() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        create(namespace, "made").await;
        let only = ["migrate", "--ask", "--only", "defaults", "--unrecorded", "-n", namespace.name()];
        let ran = cli(&cluster, &only).await;
        assert_eq!(ran.status, Some(1));
        assert!(ran.text.contains("--ask needs a terminal to ask on; --yes writes"), "{}", ran.text);
        assert_eq!(get(namespace, "made").await["spec"]["timeout"], "60s");
    });
    test.await.unwrap();
}

#[tokio::test]
async fn doctor_and_routes_say_that_nothing_is_installed() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let here = ["--system-namespace", namespace.name(), "-n", namespace.name()];
        let doctor = cli(&cluster, &[&["doctor", "-o", "json"][..], &here].concat()).await;
        assert_eq!(doctor.status, Some(1), "{}", doctor.text);
        let answer: Value = serde_json::from_str(&doctor.text).unwrap();
        let names: Vec<_> =
            answer["findings"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names, ["NotInstalled", "NotInstalled", "NoLeader", "Definition", "NoIngress"]);
        let routes = cli(&cluster, &[&["routes"][..], &here].concat()).await;
        assert_eq!(routes.status, Some(1));
        assert!(routes.text.contains("no gateway pods of the release krypton"), "{}", routes.text);
    });
    test.await.unwrap();
}
