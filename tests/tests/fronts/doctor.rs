//! `kubectl-krypton doctor --url` against the real proxies: with what a class does when nobody says anything, it names
//! what would break agents and the setting that changes it; with what the chart sets, it finds nothing.
//!
//! Read timeouts are scaled down, and the silent probe with them.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use krypton_e2e::front::{Front, envoy, haproxy, nginx};
use krypton_e2e::programs::binary;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::Stage;

/// A proxy's read timeout here; above the whole of the probe's first streams, which are not to be cut.
const READ_TIMEOUT: Duration = Duration::from_secs(4);

/// How long the probe is silent: above that, or within it.
const LONGER: &str = "7s";
const SHORTER: &str = "2s";

/// A run takes ten seconds; this is for a machine that is busy with other tests.
const DEADLINE: Duration = Duration::from_mins(2);

/// What a run found.
#[derive(Debug)]
struct Found {
    status: Option<i32>,
    findings: Vec<Value>,
}

/// Has doctor look at a front, told its class or not.
async fn doctor(address: SocketAddr, silence: &str, class: Option<&str>) -> Found {
    let url = format!("http://{address}");
    let output = Command::new(binary("kubectl-krypton").unwrap())
        .args(["doctor", "--no-cluster", "--output", "json", "--url", &url, "--silence", silence])
        .args(class.map(|class| ["--class", class]).into_iter().flatten())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(DEADLINE, output).await.expect("an end").unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    Found { status: output.status.code(), findings: answer["findings"].as_array().unwrap().clone() }
}

/// With what the chart sets, all is well.
async fn is_well(front: &Front) {
    let found = doctor(front.address, SHORTER, None).await;
    assert_eq!(found.status, Some(0), "{found:#?}");
    assert_eq!(found.names(), ["Streaming", "NotCut", "BodyPasses"], "{found:#?}");
}

// === impl Found ===

impl Found {
    fn names(&self) -> Vec<&str> {
        self.findings.iter().map(|one| one["name"].as_str().unwrap()).collect()
    }

    fn with(&self, name: &str) -> &Value {
        self.findings.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name}: {self:#?}"))
    }

    /// Something is to be done: about `name`, which is what `message` says, by the one line that has `setting`.
    fn blames(&self, name: &str, message: &str, setting: &str) {
        assert_eq!(self.status, Some(1), "{self:#?}");
        let finding = self.with(name);
        assert!(finding["message"].as_str().unwrap().contains(message), "{finding:#}");
        let todo = finding["todo"].as_array().unwrap();
        assert!(todo.len() == 1 && todo[0].as_str().unwrap().contains(setting), "{finding:#}");
    }

    /// The same of a cut after [`READ_TIMEOUT`], or a second more on a machine that is busy.
    fn blames_cut(&self, message: &str, setting: &str) {
        let names = self.names();
        let cut = names.iter().find(|name| ["CutAfter4s", "CutAfter5s"].contains(*name));
        self.blames(cut.unwrap_or_else(|| panic!("no cut: {self:#?}")), message, setting);
    }
}

// === nginx ===

async fn nginx(settings: nginx::Settings, stage: &Stage) -> Front {
    nginx::Settings { read_timeout: READ_TIMEOUT, ..settings }.start(stage.gateway()).await.unwrap()
}

#[tokio::test]
async fn nginx_as_recommended_is_well() {
    let stage = Stage::start().await;
    is_well(&nginx(nginx::Settings::RECOMMENDED, &stage).await).await;
}

#[tokio::test]
async fn ingress_nginx_without_annotations_cuts_silence_and_limits_bodies() {
    let stage = Stage::start().await;
    let front = nginx(nginx::Settings::INGRESS_NGINX_DEFAULTS, &stage).await;
    let found = doctor(front.address, LONGER, Some("ingress-nginx")).await;
    found.blames_cut("without a byte", "nginx.ingress.kubernetes.io/proxy-read-timeout: \"330\"");
    let size = "nginx.ingress.kubernetes.io/proxy-body-size: \"0\"";
    found.blames("BodyLimit1MiB", "more than 1 MiB is refused", size);
    assert_eq!(found.with("Streaming")["level"], "good", "its buffering is off by itself");
}

/// It buffers, but the gateway's streams come in whole chunks, which nginx passes on.
#[tokio::test]
async fn f5_without_annotations_cuts_silence_and_limits_bodies() {
    let stage = Stage::start().await;
    let front = nginx(nginx::Settings::F5_DEFAULTS, &stage).await;
    let found = doctor(front.address, LONGER, Some("nginx")).await;
    found.blames_cut("without a byte", "nginx.org/proxy-read-timeout: \"330s\"");
    found.blames("BodyLimit1MiB", "is refused", "nginx.org/client-max-body-size: \"0\"");
    assert_eq!(found.with("Streaming")["level"], "good");
}

/// Its `server` header speaks for both controllers that are made of it.
#[tokio::test]
async fn nginx_that_was_told_nothing_holds_back_what_is_no_event_stream() {
    let stage = Stage::start().await;
    let front = nginx(nginx::Settings::PLAIN_DEFAULTS, &stage).await;
    let found = doctor(front.address, LONGER, None).await;
    assert_eq!(found.status, Some(1));
    let buffered = found.with("Buffered");
    let message = buffered["message"].as_str().unwrap();
    assert!(
        message.starts_with("streams of JSON lines (NDJSON) are, event streams (SSE) are not"),
        "{message}"
    );
    let todo: Vec<&str> =
        buffered["todo"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert!(
        todo.len() == 2
            && todo[0].contains("nginx.ingress.kubernetes.io/proxy-buffering: \"off\"")
            && todo[1].contains("nginx.org/proxy-buffering: \"False\""),
        "{todo:?}"
    );
    assert_eq!(found.names().len(), 3);
    assert_eq!(found.names()[2], "BodyLimit1MiB");
}

/// The silence is measured all the same, though its first event comes with its end.
#[tokio::test]
async fn nginx_that_ignores_the_gateways_wish_holds_back_everything() {
    let stage = Stage::start().await;
    let front = nginx(nginx::Settings::BUFFERS_EVERYTHING, &stage).await;
    let found = doctor(front.address, LONGER, Some("ingress-nginx")).await;
    let streams = "all streams, of events (SSE) and of JSON lines (NDJSON), are held back";
    found.blames("Buffered", streams, "X-Accel-Buffering out of proxy_ignore_headers");
    found.blames_cut("without a byte", "nginx.ingress.kubernetes.io/proxy-read-timeout: \"330\"");
}

// === HAProxy ===

/// The client is silent while it reads: its timeout must not matter.
#[tokio::test]
async fn haproxy_as_recommended_is_well() {
    let stage = Stage::start().await;
    let client_timeout = Duration::from_secs(1);
    let settings = haproxy::Settings { server_timeout: READ_TIMEOUT, client_timeout };
    is_well(&settings.start(stage.gateway()).await.unwrap()).await;
}

#[tokio::test]
async fn haproxy_without_annotations_cuts_silence() {
    let stage = Stage::start().await;
    let settings = haproxy::Settings { server_timeout: READ_TIMEOUT, ..haproxy::Settings::CLASS_DEFAULTS };
    let front = settings.start(stage.gateway()).await.unwrap();
    let found = doctor(front.address, LONGER, Some("haproxy")).await;
    found.blames_cut("without a byte", "haproxy.org/timeout-server: \"330s\"");
    assert_eq!((found.names()[0], found.names()[2]), ("Streaming", "BodyPasses"));
}

// === Envoy ===

#[tokio::test]
async fn envoy_as_recommended_is_well() {
    let stage = Stage::start().await;
    let settings = envoy::Settings { stream_idle_timeout: READ_TIMEOUT, ..envoy::Settings::RECOMMENDED };
    is_well(&settings.start(stage.gateway()).await.unwrap()).await;
}

/// The limit on the whole answer hides the one on silence until it is taken away.
#[tokio::test]
async fn envoy_without_settings_cuts_what_is_busy_too() {
    let stage = Stage::start().await;
    let settings = envoy::Settings { route_timeout: READ_TIMEOUT, ..envoy::Settings::CLASS_DEFAULTS };
    let front = settings.start(stage.gateway()).await.unwrap();
    let found = doctor(front.address, LONGER, Some("contour")).await;
    found.blames_cut("also while it is busy", "projectcontour.io/response-timeout: infinity");
    assert_eq!((found.names()[0], found.names()[2]), ("Streaming", "BodyPasses"));
    let found = doctor(front.address, LONGER, Some("envoy-gateway")).await;
    found.blames_cut("also while it is busy", "timeouts.request: 0s in the rule of the HTTPRoute");
}

/// What is left when the route is right: for Contour, no route can lift it.
#[tokio::test]
async fn envoy_with_a_route_alone_cuts_silence() {
    let stage = Stage::start().await;
    let settings = envoy::Settings { stream_idle_timeout: READ_TIMEOUT, ..envoy::Settings::RECOMMENDED };
    let front = settings.start(stage.gateway()).await.unwrap();
    let found = doctor(front.address, LONGER, Some("contour")).await;
    let setting = "timeouts.stream-idle-timeout: 330s in Contour's configuration";
    found.blames_cut("without a byte", setting);
    let found = doctor(front.address, LONGER, Some("envoy-gateway")).await;
    found.blames_cut("without a byte", "streamIdleTimeout: 330s in a BackendTrafficPolicy");
}
