//! Values that the chart refuses, each with the sentence that a person reads.

use krypton_e2e::helm::{Helm, Release};

const RELEASE: Release<'static> = Release { name: "krypton", namespace: "krypton-system" };

/// Values, and what is said of them: the key and the way out.
const REFUSED: &[(&str, &str)] = &[
    // By the schema.
    ("gateway: {replica: 3}", "at '/gateway': additional properties 'replica' not allowed"),
    ("gatway: {replicas: 3}", "at '': additional properties 'gatway' not allowed"),
    ("gateway: {replicas: two}", "at '/gateway/replicas': got string, want integer"),
    ("gateway: {replicas: -1}", "at '/gateway/replicas': minimum: got -1, want 0"),
    ("gateway: {service: {port: 0}}", "at '/gateway/service/port': minimum: got 0, want 1"),
    (
        "gateway: {service: {type: Cluster}}",
        "at '/gateway/service/type': value must be one of 'ClusterIP', 'NodePort', 'LoadBalancer'",
    ),
    (
        "image: {pullPolicy: Sometimes}",
        "at '/image/pullPolicy': value must be one of 'IfNotPresent', 'Always', 'Never'",
    ),
    ("images: {gateway: {name: x}}", "at '/images/gateway': additional properties 'name' not allowed"),
    (
        "certificates: {source: letsencrypt}",
        "at '/certificates/source': value must be one of 'self-signed', 'cert-manager', 'secret'",
    ),
    (
        "ingress: {class: ngnix}",
        "at '/ingress/class': value must be one of 'ingress-nginx', 'nginx', 'haproxy', 'traefik', 'contour', 'envoy-gateway', 'generic'",
    ),
    ("ingress: {annotations: {a: 1}}", "at '/ingress/annotations/a': got number, want string"),
    ("ingress: {maxBodySize: 10MB}", "at '/ingress/maxBodySize': '10MB' does not match pattern"),
    (
        "webhooks: {failurePolicy: ignore}",
        "at '/webhooks/failurePolicy': value must be one of 'Ignore', 'Fail'",
    ),
    ("webhooks: {timeoutSeconds: 60}", "at '/webhooks/timeoutSeconds': maximum: got 60, want 30"),
    ("watchNamespaces: team-a", "at '/watchNamespaces': got string, want array"),
    ("watchNamespaces: [Team_A]", "at '/watchNamespaces/0': 'Team_A' does not match pattern"),
    ("discovery: {plaintext: 'yes'}", "at '/discovery/plaintext': got string, want boolean"),
    (
        "log: {level: verbose}",
        "at '/log/level': value must be one of 'off', 'error', 'warn', 'info', 'debug', 'trace'",
    ),
    (
        "manager: {terminationGracePeriodSeconds: 2}",
        "at '/manager/terminationGracePeriodSeconds': minimum: got 2, want 10",
    ),
    ("trustedProxies: [10.0.0.0/33]", "trustedProxies: \"10.0.0.0/33\" is no network."),
    ("denyCIDRs: [999.1.1.1/8]", "denyCIDRs: \"999.1.1.1/8\" is no network."),
    (
        "certificates: {source: cert-manager, issuerRef: {kind: ClusterIssuer}}",
        "certificates.issuerRef.name: an issuer without a name.",
    ),
    (
        "networkPolicy: {callers: [{podSelecto: {}}]}",
        "at '/networkPolicy/callers/0': additional properties 'podSelecto' not allowed",
    ),
    ("fullnameOverride: Foo_Bar", "at '/fullnameOverride': 'Foo_Bar' does not match pattern"),
    (
        "image: {registry: 'https://ghcr.io'}",
        "at '/image/registry': 'https://ghcr.io' does not match pattern",
    ),
    (
        "allowedHosts: ['https://a.example.com']",
        "at '/allowedHosts/0': 'https://a.example.com' does not match pattern",
    ),
    ("ipFamily: dual", "at '/ipFamily': value must be one of 'IPv4', 'IPv6'"),
    ("gateway: null", "at '': missing property 'gateway'"),
    // By their form.
    (
        "gateway: {drainDelay: 5 seconds}",
        "gateway.drainDelay: \"5 seconds\" is no duration. Write it as 500ms, 5s, 5m or 1m30s.",
    ),
    (
        "gateway: {drainTimeout: '300'}",
        "gateway.drainTimeout: \"300\" is no duration. Write it as 500ms, 5s, 5m or 1m30s.",
    ),
    (
        "ingress: {readTimeout: 5min}",
        "ingress.readTimeout: \"5min\" is no duration. Write it as 500ms, 5s, 5m or 1m30s.",
    ),
    (
        "trustedProxies: [10.0.0.1]",
        "trustedProxies: \"10.0.0.1\" is no network. Write an address and the length of its prefix, as 10.0.0.0/8.",
    ),
    (
        "denyCIDRs: [nodes]",
        "denyCIDRs: \"nodes\" is no network. Write an address and the length of its prefix, as 10.0.0.0/8.",
    ),
    (
        "certificates: {caBundle: LS0tLS1CRUdJTi}",
        "certificates.caBundle: it is no PEM. Give the file that begins with -----BEGIN CERTIFICATE-----, not its base64.",
    ),
    // By what they mean together.
    (
        "gateway: {drainTimeout: 10m}",
        "gateway.terminationGracePeriodSeconds: 330 is too short for gateway.drainDelay 5s and gateway.drainTimeout 10m with 5 seconds to spare: calls would be cut. Set it to 610 or more, or make the drain shorter.",
    ),
    (
        "gateway: {drainDelay: 1m29s500ms, drainTimeout: 1h, terminationGracePeriodSeconds: 3694}",
        "gateway.terminationGracePeriodSeconds: 3694 is too short for gateway.drainDelay 1m29s500ms and gateway.drainTimeout 1h with 5 seconds to spare: calls would be cut. Set it to 3695 or more, or make the drain shorter.",
    ),
    (
        "gateway: {autoscaling: {enabled: true, minReplicas: 5, maxReplicas: 3}}",
        "gateway.autoscaling.minReplicas: 5 is above gateway.autoscaling.maxReplicas 3. Make maxReplicas at least as large.",
    ),
    (
        "gateway: {autoscaling: {enabled: true, targetCPUUtilizationPercentage: null}}",
        "gateway.autoscaling: it has nothing to scale by. Set targetCPUUtilizationPercentage, targetMemoryUtilizationPercentage or metrics.",
    ),
    (
        "gateway: {autoscaling: {enabled: true}, resources: {requests: {cpu: null}, limits: {cpu: null}}}",
        "gateway.autoscaling.targetCPUUtilizationPercentage: it is a share of gateway.resources.requests.cpu, which is not set. Set that, or set this to null.",
    ),
    (
        "certificates: {source: secret}",
        "certificates.secretName: certificates.source is secret, but which is not said. Name a Secret in namespace krypton-system with tls.crt, tls.key and ca.crt.",
    ),
    (
        "{certificates: {source: secret, secretName: mine}, manager: {enableWebhooks: true}}",
        "certificates.caBundle: with certificates.source secret and manager.enableWebhooks the API server must be told which authority signed the certificate. Give its PEM, e.g. by --set-file certificates.caBundle=ca.crt.",
    ),
    (
        "{discovery: {plaintext: true}, manager: {enableWebhooks: true}}",
        "discovery.plaintext: manager.enableWebhooks with certificates.source self-signed makes a certificate, and it protects discovery too. Remove discovery.plaintext, or take certificates.source cert-manager or secret.",
    ),
    (
        "ingress: {enabled: true, class: envoy-gateway}",
        "ingress.class: Envoy Gateway serves no Ingress. Set ingress.enabled to false and httpRoute.enabled to true, and name your Gateway in httpRoute.parentRefs.",
    ),
    (
        "httpRoute: {enabled: true}",
        "httpRoute.parentRefs: an HTTPRoute without a Gateway serves nobody. Name it, e.g. --set httpRoute.parentRefs[0].name=my-gateway; kubectl get gateways --all-namespaces lists them.",
    ),
    (
        "ingress: {enabled: true, readTimeout: 0s}",
        "ingress.readTimeout: 0 means something else to each ingress. Set it above the timeout of the slowest Agent, e.g. 330s.",
    ),
    // Of Krypton in Go, and not to be had here.
    (
        "postgres: {enabled: true}",
        "postgres.enabled: there is no database here: Agents and their status are the only store. Remove the key or set it to false.",
    ),
    (
        "controlPlane: {databaseUrl: 'postgres://db/krypton'}",
        "controlPlane.databaseUrl: there is no database here: Agents and their status are the only store. Remove the key.",
    ),
];

#[tokio::test]
async fn wrong_values_are_refused_by_their_key() {
    let helm = Helm::offline().unwrap();
    for (values, sentence) in REFUSED {
        let refusal = helm.template(RELEASE, values).await.expect_err(values).to_string();
        assert!(refusal.contains(sentence), "{values}\nwas to say: {sentence}\nbut said: {refusal}");
    }
}

#[tokio::test]
async fn all_problems_are_said_at_once() {
    let values = "{postgres: {enabled: true}, gateway: {drainTimeout: 10m}, httpRoute: {enabled: true}}";
    let refusal = Helm::offline().unwrap().template(RELEASE, values).await.unwrap_err().to_string();
    for key in ["postgres.enabled: ", "gateway.terminationGracePeriodSeconds: ", "httpRoute.parentRefs: "] {
        assert!(refusal.contains(&format!("\n{key}")), "{key} in {refusal}");
    }
}
