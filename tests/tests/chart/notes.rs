//! What a person reads after `helm install`.

use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::helm::{Helm, Release};

use crate::api_server::make_namespaces;
use crate::cases::CASES;
use crate::kinds;

const KRYPTON: Release<'static> = Release { name: "krypton", namespace: "krypton-system" };

/// Values of Krypton in Go that mean nothing here, each by the key that the notes must name.
const WITHOUT_MEANING: [&str; 17] = [
    "images.proxy: ",
    "manager.enableScaler: ",
    "manager.scalerIntervalMs: ",
    "manager.scalerStableWindowMs: ",
    "gateway.maxBufferPerAgent: ",
    "gateway.pollIntervalMs: ",
    "gateway.defaultStartupTimeoutMs: ",
    "podMonitor.namespaceSelector: ",
    "controlPlane.replicas: ",
    "controlPlane.databaseUrl: ",
    "controlPlane.service: ",
    "controlPlane.resources: ",
    "postgres.enabled: ",
    "postgres.image: ",
    "postgres.auth: ",
    "postgres.persistence: ",
    "Set, but without meaning here (remove them):",
];

/// Values, what must be said, and what must not.
const NOTES: &[(&str, &[&str], &[&str])] = &[
    (
        "",
        &[
            "krypton 0.1.0 is installed in krypton-system: krypton-controller looks after Agents in all namespaces, krypton-gateway takes calls.",
            "Agents are at http://krypton-gateway.krypton-system:8080/v1/agents/NAMESPACE/NAME inside the cluster.",
            "kubectl --namespace krypton-system port-forward service/krypton-gateway 8080:8080",
            "Agents and their pods go on without them",
        ],
        &["Look at:", "without meaning"],
    ),
    ("watchNamespaces: [team-a, team-b]", &["looks after Agents in team-a, team-b,"], &["Look at:"]),
    (
        "ingress: {enabled: true, host: agents.example.com, tls: [{secretName: a}]}",
        &[
            "Agents are at https://agents.example.com/v1/agents/NAMESPACE/NAME.",
            "kubectl krypton doctor --url https://agents.example.com\n",
            "trustedProxies: empty",
        ],
        &["inside the cluster"],
    ),
    ("{trustedProxies: [10.1.0.0/16], ingress: {enabled: true}}", &["http://HOST/v1/agents"], &["Look at:"]),
    ("trustedProxies: [0.0.0.0/0]", &["trustedProxies: everybody is trusted"], &[]),
    ("discovery: {plaintext: true}", &["discovery.plaintext: whoever reaches"], &[]),
    ("gateway: {replicas: 1}", &["gateway.replicas: with 1, calls fail"], &["manager.replicas"]),
    ("manager: {replicas: 1}", &["manager.replicas: with 1, nobody"], &["gateway.replicas"]),
    (
        "{manager: {enableWebhooks: true}, webhooks: {failurePolicy: Fail}}",
        &["webhooks.failurePolicy: Fail refuses every change"],
        &[],
    ),
    (
        "ingress: {enabled: true, class: contour}",
        &["Set timeouts.stream-idle-timeout: 330s in its configuration, or ingress.readTimeout to 5m."],
        &[],
    ),
    ("ingress: {enabled: true, class: contour, readTimeout: 5m}", &[], &["stream-idle-timeout"]),
    (
        "{ingress: {class: contour}, httpRoute: {enabled: true, parentRefs: [{name: shared}], hostnames: [agents.example.com]}}",
        &["Agents are at https://agents.example.com/v1/agents", "stream-idle-timeout: 330s"],
        &[],
    ),
    ("ingress: {enabled: true, readTimeout: 60s}", &["ingress.readTimeout: 60s is not above 300s"], &[]),
    ("ingress: {enabled: true, class: nginx}", &["proxy_request_buffering off"], &[]),
    ("ingress: {enabled: true, class: traefik}", &["respondingTimeouts.readTimeout=0"], &[]),
    (
        "certificates: {source: secret, secretName: mine}",
        &["The certificate in Secret mine must be for krypton-controller.krypton-system.svc, and"],
        &[],
    ),
];

#[tokio::test]
async fn the_notes_say_what_to_do_next_and_what_to_look_at() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    make_namespaces(&cluster).await;
    let unknown = kinds::install(&cluster).await.unwrap();
    let helm = Helm::on(&cluster).unwrap();
    let dry_run = ["--dry-run=server", "--hide-secret"];
    for (values, said, not_said) in NOTES {
        if values.contains("httpRoute") && unknown.contains(&"gateway.networking.k8s.io") {
            continue;
        }
        let printed = helm.install(KRYPTON, values, &dry_run).await.unwrap();
        let notes = printed.split_once("\nNOTES:\n").unwrap().1;
        for sentence in *said {
            assert!(notes.contains(sentence), "{values}\nwas to say: {sentence}\nbut said: {notes}");
        }
        for sentence in *not_said {
            assert!(!notes.contains(sentence), "{values}\nwas not to say: {sentence}\nbut said: {notes}");
        }
    }
    let upstream = CASES.iter().find(|case| case.name == "upstream").unwrap();
    if unknown.contains(&"monitoring.coreos.com") {
        return;
    }
    let printed = helm.install(KRYPTON, upstream.values, &dry_run).await.unwrap();
    for key in WITHOUT_MEANING {
        assert!(printed.contains(&format!("\n  {key}")) || printed.contains(&format!("\n{key}")), "{key}");
    }
}
