//! The controller under exactly the rights that the chart gives it: nothing it does is forbidden, and nothing that it
//! may do is left undone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::PolicyRule;
use krypton_crd::Agent;
use krypton_e2e::audit::{AuditLog, Call, USER};
use krypton_e2e::cluster::{Cluster, Namespace};
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::programs::{Controller, Gateway};
use krypton_e2e::wait::eventually;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::access::{AUDIENCE, GATEWAY, Token, account};
use crate::certificates;
use crate::objects::{agent, put};
use crate::statuses::{condition_becomes, status_is_current};
use crate::support::{SOON, is_ready, metric_becomes};
use crate::webhooks::configurations;
use crate::workloads::{any, child, create_as_go, go_deployment, go_service, image_is, owner, replicas_are};

/// What the chart makes roles from.
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/krypton/files/rbac/controller.yaml");

/// Group, resource and verb.
type Right = (String, String, String);

/// The rules of the chart.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Rights {
    watched_namespaces: Vec<PolicyRule>,
    cluster: Vec<PolicyRule>,
    own_namespace: Vec<PolicyRule>,
    certificates: Vec<PolicyRule>,
    webhooks: Vec<PolicyRule>,
}

/// Where the rights on Agents hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The controller looks after all namespaces.
    Cluster,
    /// It looks after one.
    Namespace,
}

// === impl Rights ===

impl Rights {
    /// As the chart has them.
    pub(crate) fn of_the_chart() -> Self {
        serde_saphyr::from_str(&fs::read_to_string(RULES).unwrap()).unwrap()
    }

    /// Gives them to the audited user, with its Lease in `own`.
    pub(crate) async fn grant(&self, reach: Reach, watched: &Namespace, own: &Namespace) {
        let lease = json!({ "name": "lease", "namespace": own.name() });
        let agents = json!({ "name": "agents", "namespace": watched.name() });
        let certificates = json!({ "name": "certificates", "namespace": own.name() });
        let mut objects = Vec::from(role("Role", &lease, &self.own_namespace));
        objects.extend(role("ClusterRole", &json!({ "name": "reviews" }), &self.cluster));
        objects.extend(role("Role", &certificates, &self.certificates));
        objects.extend(role("ClusterRole", &json!({ "name": "webhooks" }), &self.webhooks));
        objects.extend(match reach {
            Reach::Cluster => role("ClusterRole", &json!({ "name": "agents" }), &self.watched_namespaces),
            Reach::Namespace => role("Role", &agents, &self.watched_namespaces),
        });
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string();
        own.cluster().kubectl(&["apply", "--server-side", "--filename=-"], &list).await.unwrap();
    }

    /// Each right on its own.
    fn all(&self) -> BTreeSet<Right> {
        let rules = self.watched_namespaces.iter().chain(&self.cluster).chain(&self.own_namespace);
        let rules = rules.chain(&self.certificates).chain(&self.webhooks);
        let rights = rules.flat_map(|rule| {
            let groups = rule.api_groups.iter().flatten();
            groups.flat_map(move |group| {
                let resources = rule.resources.iter().flatten();
                resources.flat_map(move |resource| {
                    rule.verbs.iter().map(move |verb| (group.clone(), resource.clone(), verb.clone()))
                })
            })
        });
        rights.collect()
    }

    /// Without the rules on that resource.
    fn without(mut self, resource: &str) -> Self {
        for rules in [&mut self.watched_namespaces, &mut self.cluster, &mut self.own_namespace] {
            rules.retain(|rule| !rule.resources.iter().flatten().any(|named| named == resource));
        }
        self
    }
}

/// A role and its binding to the audited user.
fn role(kind: &str, metadata: &Value, rules: &[PolicyRule]) -> [Value; 2] {
    let api = "rbac.authorization.k8s.io";
    [
        json!({ "apiVersion": format!("{api}/v1"), "kind": kind, "metadata": metadata, "rules": rules }),
        json!({
            "apiVersion": format!("{api}/v1"), "kind": format!("{kind}Binding"), "metadata": metadata,
            "roleRef": { "apiGroup": api, "kind": kind, "name": metadata["name"] },
            "subjects": [{ "apiGroup": api, "kind": "User", "name": USER }],
        }),
    ]
}

/// A namespace with Agents, one with the Lease, and the controller's record.
struct Place<'a> {
    audit: &'a AuditLog,
    watched: &'a Namespace,
    own: &'a Namespace,
    reach: Reach,
}

// === impl Place ===

impl Place<'_> {
    async fn start_controller(&self, identity: &str) -> Controller {
        let gateways = account(self.own, GATEWAY);
        let mut args = vec!["--identity", identity, "--lease-namespace", self.own.name()];
        args.extend(["--gateway-service-account", &gateways]);
        args.extend(["--certificate-secret", "krypton-certificates"]);
        args.extend(["--certificate-authority", "krypton-ca"]);
        args.extend(["--certificate-names", "localhost", "--webhook-configurations", "krypton-webhooks"]);
        args.extend(["--enable-webhooks", "--webhook-listen", "127.0.0.1:0"]);
        if self.reach == Reach::Namespace {
            args.extend(["--namespace", self.watched.name()]);
        }
        Controller::start_on_cluster(self.audit.kubeconfig(), &args).await.unwrap()
    }

    /// Every task that the controller has.
    async fn live_a_whole_life(&self) {
        let namespace = self.watched;
        self.leave_objects_of_others().await;
        self.make_certificate_objects().await;
        let first = self.start_controller("first").await;
        let token = Token::of(self.own, GATEWAY, &[AUDIENCE]).await;
        let folder = TempDir::new().unwrap();
        let bundle = certificates::save_bundle(self.own, folder.path()).await;
        let [token_flag, token] = &token.flags();
        let flags = [token_flag, token, "--discovery-ca-file", &bundle];
        let discovery = format!("https://localhost:{}", first.discovery.port());
        let gateway = Gateway::start_on(&discovery, &flags).await.unwrap();
        is_ready(&gateway).await;
        is_taken_over(namespace).await;
        for name in ["account", "service", "deployment"] {
            condition_becomes(namespace, name, "Accepted", "False", "NameConflict").await;
        }
        put(namespace, agent("new", json!({}))).await.unwrap();
        condition_becomes(namespace, "new", "Programmed", "True", "Programmed").await;
        put(namespace, agent("new", json!({ "image": "other", "port": 9000, "replicas": 2 }))).await.unwrap();
        child(namespace, "new", image_is("other")).await;
        child(namespace, "new", replicas_are(2)).await;
        is_resized(namespace).await;
        // The second time makes a series of the Event.
        for _ in 0..2 {
            is_repaired(namespace).await;
        }
        self.hand_over(first).await;
        let agents: Api<Agent> = namespace.api();
        agents.delete("new", &DeleteParams::default()).await.unwrap();
        // Kubernetes takes its children away; with a definition that is new, it begins so up to half a minute later.
        eventually("nothing holds it", SOON, async || {
            ensure!(agents.get_opt("new").await?.is_none());
            Ok(())
        })
        .await
        .unwrap();
    }

    /// What the Go controller and strangers left before ours ever ran.
    async fn leave_objects_of_others(&self) {
        let namespace = self.watched;
        put(namespace, agent("echo", json!({}))).await.unwrap();
        let owner = owner(namespace).await;
        create_as_go::<Deployment>(namespace, go_deployment(&owner)).await;
        create_as_go::<Service>(namespace, go_service(&owner)).await;
        let finalizer = json!({ "metadata": { "finalizers": ["krypton.ai/cleanup"] } });
        let agents: Api<Agent> = namespace.api();
        agents.patch("echo", &PatchParams::default(), &Patch::Merge(&finalizer)).await.unwrap();

        let pod = json!({ "metadata": { "labels": { "app": "a" } },
            "spec": { "containers": [{ "name": "a", "image": "a" }] } });
        for foreign in [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "account" } }),
            json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "service" },
                "spec": { "ports": [{ "port": 80 }] } }),
            json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "deployment" },
                "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "a" } }, "template": pod } }),
        ] {
            let name = foreign["metadata"]["name"].as_str().unwrap().to_owned();
            put(namespace, foreign).await.unwrap();
            put(namespace, agent(&name, json!({}))).await.unwrap();
        }
    }

    /// What the chart makes for the controllers' own certificate; nothing is asked of these webhooks.
    async fn make_certificate_objects(&self) {
        certificates::make_objects(self.own).await;
        let nothing = json!({ "matchLabels": { "no-such": "label" } });
        let objects = configurations(self.own.name(), ([127, 0, 0, 1], 1).into(), None, "Ignore");
        for mut object in objects {
            object["metadata"]["name"] = "krypton-webhooks".into();
            object["webhooks"][0]["namespaceSelector"] = nothing.clone();
            let apply = ["apply", "--server-side", "--filename=-"];
            self.own.cluster().kubectl(&apply, &object.to_string()).await.unwrap();
        }
    }

    /// Another controller leads, and this one too when that is gone.
    async fn hand_over(&self, first: Controller) {
        let second = self.start_controller("second").await;
        eventually("the second watches the Lease", SOON, async || {
            let calls = self.audit.calls()?;
            let watches = calls.iter().filter(|call| call.verb == "watch" && call.resource == "leases");
            ensure!(watches.count() > 1);
            Ok(())
        })
        .await
        .unwrap();
        first.process.terminate();
        metric_becomes(second.admin, "krypton_controller_leader", 1.0).await;
        put(self.watched, agent("after", json!({}))).await.unwrap();
        status_is_current(self.watched, "after").await;
    }
}

async fn is_taken_over(namespace: &Namespace) {
    child(namespace, "echo", |deployment: &Deployment| {
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()).context("no pod")?;
        ensure!(pod.containers.len() == 1, "the sidecar is there");
        Ok(())
    })
    .await;
    let agents: Api<Agent> = namespace.api();
    eventually("the finalizer is gone", SOON, async || {
        ensure!(agents.get("echo").await?.finalizers().is_empty());
        Ok(())
    })
    .await
    .unwrap();
}

/// Somebody edits the account and the Service of `new`.
async fn is_repaired(namespace: &Namespace) {
    let label = json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": "nobody" } } });
    let (params, label) = (PatchParams::default(), Patch::Merge(&label));
    namespace.api::<ServiceAccount>().patch("new", &params, &label).await.unwrap();
    namespace.api::<Service>().patch("new", &params, &label).await.unwrap();
    let managed = |labels: &BTreeMap<String, String>| {
        ensure!(labels["app.kubernetes.io/managed-by"] == "krypton-runtime", "{labels:?}");
        Ok(())
    };
    child(namespace, "new", |account: &ServiceAccount| managed(account.labels())).await;
    child(namespace, "new", |service: &Service| managed(service.labels())).await;
}

/// Somebody scales the Deployment of `new`.
async fn is_resized(namespace: &Namespace) {
    let scale = ["scale", "deployment/new", "--replicas=5", "--namespace", namespace.name()];
    namespace.cluster().kubectl(&scale, "").await.unwrap();
    child(namespace, "new", replicas_are(2)).await;
}

/// Gives `test` two namespaces of a control plane that keeps a record.
async fn with_place(reach: Reach, flags: &[&str], rights: &Rights, test: impl AsyncFnOnce(Place<'_>)) {
    let (control_plane, audit) = ControlPlane::start_audited(flags).await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    with_namespaces(&cluster, async |watched, own| {
        rights.grant(reach, watched, own).await;
        test(Place { audit: &audit, watched, own, reach }).await;
    })
    .await;
}

async fn with_namespaces(cluster: &Cluster, test: impl AsyncFnOnce(&Namespace, &Namespace)) {
    let test = cluster.with_namespace(async |watched| {
        cluster.with_namespace(async |own| test(watched, own).await).await.unwrap();
    });
    test.await.unwrap();
}

fn right(call: &Call) -> Right {
    (call.group.clone(), call.resource.clone(), call.verb.clone())
}

/// Nothing was forbidden; and which rights were used.
fn used(calls: &[Call]) -> BTreeSet<Right> {
    let forbidden: Vec<_> = calls.iter().filter(|call| call.code == 403).collect();
    assert!(forbidden.is_empty(), "{forbidden:#?}");
    calls.iter().map(right).collect()
}

/// Never asked for by a call; [`who_names_an_owner_needs_the_right_on_its_finalizers`] shows what it is for.
fn unseen() -> Right {
    ("krypton.ai".to_owned(), "agents/finalizers".to_owned(), "update".to_owned())
}

/// What a whole life uses; at least `expected`.
async fn used_in_a_life(reach: Reach, flags: &[&str], expected: &BTreeSet<Right>) -> BTreeSet<Right> {
    let mut found = BTreeSet::new();
    with_place(reach, flags, &Rights::of_the_chart(), async |place| {
        place.live_a_whole_life().await;
        // Some come late: an Event that repeats an earlier one.
        found = eventually("every right is used", SOON, async || {
            let used = used(&place.audit.calls()?);
            let unused: Vec<_> = expected.difference(&used).collect();
            ensure!(unused.is_empty(), "never used: {unused:#?}");
            Ok(used)
        })
        .await
        .unwrap();
    })
    .await;
    found
}

#[tokio::test]
async fn the_rights_of_the_chart_are_enough_and_none_is_too_many() {
    let mut granted = Rights::of_the_chart().all();
    assert!(granted.remove(&unseen()));
    let but_lists: BTreeSet<_> = granted.iter().filter(|(_, _, verb)| verb != "list").cloned().collect();
    let mut used = used_in_a_life(Reach::Cluster, &[], &but_lists).await;
    // Servers older than 1.34, and those that refuse to stream lists, are asked for classic ones.
    let classic = ["--feature-gates=WatchList=false"];
    used.extend(used_in_a_life(Reach::Namespace, &classic, &granted).await);
    assert_eq!(used, granted);
}

#[tokio::test]
async fn who_names_an_owner_needs_the_right_on_its_finalizers() {
    let rights = Rights::of_the_chart().without("agents/finalizers");
    with_place(Reach::Namespace, &[], &rights, async |place| {
        let _controller = place.start_controller("only").await;
        put(place.watched, agent("echo", json!({}))).await.unwrap();
        let accepted = condition_becomes(place.watched, "echo", "Accepted", "False", "WriteRefused").await;
        assert!(accepted.message.contains("blockOwnerDeletion"), "{}", accepted.message);
        // With the right it goes on by itself.
        Rights::of_the_chart().grant(Reach::Namespace, place.watched, place.own).await;
        let label = json!({ "metadata": { "labels": { "look": "again" } } });
        let agents: Api<Agent> = place.watched.api();
        agents.patch("echo", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
        child::<Deployment>(place.watched, "echo", any).await;
        condition_becomes(place.watched, "echo", "Accepted", "True", "Accepted").await;
    })
    .await;
}
