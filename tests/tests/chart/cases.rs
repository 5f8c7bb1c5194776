//! Values that people give, one case for each way the chart goes.

use krypton_e2e::helm::Release;

const KRYPTON: Release<'static> = Release { name: "krypton", namespace: "krypton-system" };

/// Namespaces that the cases speak of.
pub(crate) const NAMESPACES: [&str; 5] = ["krypton-system", "monitoring", "platform", "team-a", "team-b"];

/// Values, and what the release is called.
pub(crate) struct Case {
    /// Of the file in `golden/`, too.
    pub(crate) name: &'static str,
    pub(crate) release: Release<'static>,
    pub(crate) values: &'static str,
}

const fn case(name: &'static str, values: &'static str) -> Case {
    Case { name, release: KRYPTON, values }
}

pub(crate) const CASES: &[Case] = &[
    case("defaults", ""),
    case("everything", EVERYTHING),
    case("smallest", SMALLEST),
    case("upstream", UPSTREAM),
    Case {
        name: "other-names",
        release: Release { name: "blue", namespace: "platform" },
        values: "{nameOverride: agents, manager: {enableWebhooks: true}, ingress: {enabled: true, class: generic}}",
    },
    Case {
        name: "full-name",
        release: Release { name: "blue", namespace: "platform" },
        values: "{fullnameOverride: a-name-that-is-far-too-long-for-what-is-made-of-it, manager: {enableWebhooks: true}}",
    },
    case(
        "watch-namespaces",
        "{watchNamespaces: [team-a, team-b], manager: {enableWebhooks: true}, networkPolicy: {enabled: true}}",
    ),
    case(
        "webhooks",
        "{manager: {enableWebhooks: true}, webhooks: {failurePolicy: Fail, timeoutSeconds: 10}}",
    ),
    case("cert-manager", "{certificates: {source: cert-manager}, manager: {enableWebhooks: true}}"),
    case(
        "cert-manager-issuer",
        "{certificates: {source: cert-manager, secretName: mine, issuerRef: {name: corporate, kind: ClusterIssuer}}}",
    ),
    case("secret", SECRET),
    case(
        "secret-plaintext",
        "{certificates: {source: secret, secretName: unused}, discovery: {plaintext: true}}",
    ),
    case("plaintext", "discovery: {plaintext: true}"),
    case("ipv6", "{ipFamily: IPv6, manager: {enableWebhooks: true}}"),
    case("autoscaling", AUTOSCALING),
    case("pods", PODS),
    case(
        "images",
        "{image: {registry: registry.example.com, tag: '1.0'}, images: {gateway: {tag: next}, manager: {repository: other/controller, pullPolicy: Never}}, imagePullSecrets: [{name: registry}]}",
    ),
    case("no-roles", "rbac: {create: false}"),
    case("no-definition", "{crds: {install: false}, rbac: {aggregate: false}}"),
    case(
        "network-policy",
        "networkPolicy: {enabled: true, callers: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: ingress}}}], monitoring: []}",
    ),
    case(
        "ingress-nginx",
        "ingress: {enabled: true, host: agents.example.com, tls: [{secretName: agents-tls, hosts: [agents.example.com]}]}",
    ),
    case(
        "ingress-nginx-f5",
        "ingress: {enabled: true, class: nginx, hosts: [agents.example.com, bots.example.com], readTimeout: 10m, maxBodySize: 64m}",
    ),
    case(
        "ingress-haproxy",
        "ingress: {enabled: true, class: haproxy, host: agents.example.com, readTimeout: 1m30s500ms}",
    ),
    case(
        "ingress-traefik",
        "ingress: {enabled: true, class: traefik, host: agents.example.com, annotations: {traefik.ingress.kubernetes.io/router.entrypoints: websecure}}",
    ),
    case("ingress-contour", "ingress: {enabled: true, class: contour, host: agents.example.com}"),
    case(
        "ingress-generic",
        "ingress: {enabled: true, class: generic, annotations: {example.com/timeout: 330s}}",
    ),
    case(
        "ingress-annotations",
        "ingress: {enabled: true, className: internal, annotations: {nginx.ingress.kubernetes.io/proxy-read-timeout: '3600'}}",
    ),
    case(
        "http-route",
        "{ingress: {class: generic}, httpRoute: {enabled: true, parentRefs: [{name: shared, namespace: platform, sectionName: https}], hostnames: [agents.example.com]}}",
    ),
    case(
        "envoy-gateway",
        "{ingress: {class: envoy-gateway, readTimeout: 15m}, httpRoute: {enabled: true, parentRefs: [{name: shared}]}}",
    ),
    case("monitors", MONITORS),
];

const EVERYTHING: &str = r"
commonLabels: {team: platform}
commonAnnotations: {contact: platform@example.com}
trustedProxies: [10.1.0.0/16, 'fd00:1::/32']
allowedHosts: [agents.example.com]
denyCIDRs: [192.168.0.0/16]
manager: {enableWebhooks: true}
gateway: {autoscaling: {enabled: true}, service: {annotations: {a: b}}}
networkPolicy: {enabled: true}
ingress: {enabled: true, class: contour, host: agents.example.com}
httpRoute: {enabled: true, parentRefs: [{name: shared}], annotations: {c: d}}
serviceMonitor: {enabled: true}
podMonitor: {enabled: true}
dashboards: {enabled: true}
";

const SMALLEST: &str = r"
manager: {replicas: 1, resources: null}
gateway: {replicas: 1, resources: null, drainDelay: 0s, drainTimeout: 5s, terminationGracePeriodSeconds: 10, probe: false, accessLog: false, topologySpreadConstraints: []}
podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}
log: {level: warn, format: text}
";

/// The values of Krypton in Go as its chart ships them, with what its guide sets.
const UPSTREAM: &str = r#"
image: {registry: ghcr.io/kryptonhq, tag: "", pullPolicy: IfNotPresent}
images: {manager: {}, controlPlane: {}, gateway: {}, proxy: {tag: v1}}
manager:
  replicas: 1
  enableWebhooks: true
  enableScaler: true
  scalerIntervalMs: 1000
  scalerStableWindowMs: 60000
  resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: 500m, memory: 256Mi}}
controlPlane:
  replicas: 1
  databaseUrl: ""
  service: {type: ClusterIP, port: 8090}
  resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 500m, memory: 256Mi}}
gateway:
  replicas: 1
  maxBufferPerAgent: 100
  pollIntervalMs: 50
  defaultStartupTimeoutMs: 30000
  service: {type: ClusterIP, port: 8080}
  resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {cpu: 500m, memory: 256Mi}}
postgres:
  enabled: false
  image: {repository: postgres, tag: 16-alpine}
  auth: {user: krypton, password: krypton, database: krypton}
  persistence: {enabled: false, size: 1Gi}
rbac: {create: true}
serviceMonitor: {enabled: false, namespace: "", labels: {}, interval: 30s, scrapeTimeout: 10s, relabelings: [], metricRelabelings: []}
podMonitor: {enabled: true, namespace: "", labels: {}, namespaceSelector: {}, interval: 30s, scrapeTimeout: 10s}
"#;

const SECRET: &str = r"
certificates:
  source: secret
  secretName: krypton-tls
  caBundle: |
    -----BEGIN CERTIFICATE-----
    MIIBYTCCAQegAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDDAlrcnlwdG9u
    LWNhMB4XDTI2MDEwMTAwMDAwMFoXDTM2MDEwMTAwMDAwMFowFDESMBAGA1UEAwwJ
    -----END CERTIFICATE-----
manager: {enableWebhooks: true}
";

const AUTOSCALING: &str = r"
gateway:
  replicas: 7
  autoscaling:
    enabled: true
    minReplicas: 3
    maxReplicas: 30
    targetMemoryUtilizationPercentage: 80
    metrics: [{type: Pods, pods: {metric: {name: krypton_in_flight}, target: {type: AverageValue, averageValue: '100'}}}]
    behavior: {scaleDown: {stabilizationWindowSeconds: 600}}
";

const PODS: &str = r"
gateway: &pods
  podAnnotations: {a: b}
  podLabels: {c: d}
  nodeSelector: {disk: fast}
  tolerations: [{key: agents, operator: Exists}]
  affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: e, operator: Exists}]}}]}}
  priorityClassName: system-cluster-critical
  topologySpreadConstraints: [{topologyKey: rack, maxSkew: 1, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {f: g}}}]
  extraEnv: [{name: RUST_LOG, value: debug}]
  extraArgs: ['--log-level=debug']
  serviceAccount: {annotations: {h: i}}
manager: *pods
commonLabels: {team: platform}
";

const MONITORS: &str = r"
serviceMonitor:
  enabled: true
  namespace: monitoring
  labels: {release: prometheus}
  interval: 15s
  relabelings: [{targetLabel: cluster, replacement: one}]
  metricRelabelings: [{sourceLabels: [__name__], regex: krypton_.*, action: keep}]
podMonitor: {enabled: true, labels: {release: prometheus}, scrapeTimeout: 5s}
dashboards: {enabled: true, namespace: monitoring}
";
