//! What is written when, and what is told. The API server is a map of objects that takes patches.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::ByteString;
use kube::client::Body;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use super::*;
use crate::certificate::CERTIFICATE;

const SECRET: &str = "/api/v1/namespaces/ns/secrets/s";
const CONFIG_MAP: &str = "/api/v1/namespaces/ns/configmaps/c";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/w";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/w";

/// What is in the cluster, and what was asked of it.
#[derive(Default)]
struct Objects {
    /// By path.
    all: BTreeMap<String, Value>,
    version: u64,
    calls: Vec<String>,
    /// What writes to the path are answered with.
    refused: BTreeMap<&'static str, u16>,
}

#[derive(Clone)]
struct Cluster(Arc<Mutex<Objects>>);

// === impl Objects ===

impl Objects {
    fn patch(&mut self, path: &str, change: &Value) -> (u16, Value) {
        self.calls.push(path.to_owned());
        let seen = match change {
            Value::Array(operations) => operations[0]["value"].clone(),
            merge => merge["metadata"]["resourceVersion"].clone(),
        };
        let is_stale = self.all[path]["metadata"]["resourceVersion"] != seen;
        if let Some(code) = self.refused.get(path).copied().or(is_stale.then_some(409)) {
            let message = "because";
            return (code, json!({ "status": "Failure", "code": code, "reason": "r", "message": message }));
        }
        (200, self.write(path, change))
    }

    fn write(&mut self, path: &str, change: &Value) -> Value {
        self.version += 1;
        let object = self.all.get_mut(path).unwrap();
        match change {
            Value::Array(operations) => operations.iter().for_each(|operation| {
                let (parent, field) = operation["path"].as_str().unwrap().rsplit_once('/').unwrap();
                object.pointer_mut(parent).unwrap()[field] = operation["value"].clone();
            }),
            change => merge(object, change),
        }
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        object.clone()
    }
}

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *object = patch.clone() };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}

// === impl Cluster ===

impl Cluster {
    /// With all objects, as the chart makes them.
    fn new() -> Self {
        let mut objects = Objects::default();
        let webhook = json!({ "name": "a", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": { "url": "https://a" } });
        for (path, name) in [(SECRET, "s"), (CONFIG_MAP, "c"), (MUTATING, "w"), (VALIDATING, "w")] {
            let metadata = json!({ "name": name, "namespace": "ns", "uid": path, "resourceVersion": "0" });
            let mut object = json!({ "metadata": metadata });
            if name == "w" {
                object["webhooks"] = json!([webhook]);
            }
            objects.all.insert(path.to_owned(), object);
        }
        Self(Arc::new(Mutex::new(objects)))
    }

    fn client(&self) -> Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let (code, answer) =
                    cluster.0.lock().await.patch(&path, &serde_json::from_slice(&body).unwrap());
                let body = Full::new(hyper::body::Bytes::from(answer.to_string()));
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        Client::new(service, "ns")
    }

    async fn get<K: DeserializeOwned>(&self, path: &str) -> K {
        serde_json::from_value(self.0.lock().await.all[path].clone()).unwrap()
    }

    async fn sight<K: DeserializeOwned>(&self, path: &str) -> Sight<K> {
        Sight::There(self.get(path).await)
    }

    /// Somebody else writes.
    async fn disturb(&self, path: &str, change: Value) {
        self.0.lock().await.write(path, &change);
    }

    async fn refuse(&self, path: &'static str, code: u16) {
        self.0.lock().await.refused.insert(path, code);
    }

    /// The calls since this was last asked.
    async fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().await.calls)
    }

    async fn sees_both(&self, work: &mut Work<'_>) {
        work.take(News::Secret(self.sight(SECRET).await));
        work.take(News::ConfigMap(self.sight(CONFIG_MAP).await));
    }

    async fn sees_all(&self, work: &mut Work<'_>) {
        self.sees_both(work).await;
        work.take(News::Mutating(self.sight(MUTATING).await));
        work.take(News::Validating(self.sight(VALIDATING).await));
    }

    async fn has_leaf(&self) -> bool {
        self.get::<Secret>(SECRET).await.data.is_some_and(|data| data.contains_key(CERTIFICATE))
    }
}

fn config() -> AuthorityConfig {
    AuthorityConfig {
        namespace: "ns".into(),
        secret: "s".into(),
        config_map: "c".into(),
        names: BTreeSet::from(["krypton.svc".into()]),
        webhooks: Some("w".into()),
    }
}

/// After how long it is looked again, if nothing failed.
async fn look(work: &mut Work<'_>) -> Option<Duration> {
    match work.look().await {
        Again::At(moment) => Some(moment.saturating_duration_since(Instant::now())),
        Again::NotBefore(_) => None,
    }
}

#[tokio::test]
async fn empty_objects_are_filled_in_order_and_then_there_is_rest() {
    let (cluster, config) = (Cluster::new(), config());
    let mut work = Work::new(&config, Calls::new(cluster.client(), None));
    look(&mut work).await.unwrap();
    assert!(cluster.calls().await.is_empty());
    cluster.sees_all(&mut work).await;
    let again = look(&mut work).await.unwrap();
    assert_eq!(cluster.calls().await, [SECRET, CONFIG_MAP, MUTATING, VALIDATING, SECRET]);
    assert!(again > LOOK / 2 && cluster.has_leaf().await);
    let bundle = cluster.get::<ConfigMap>(CONFIG_MAP).await.data.unwrap().remove("ca.crt").unwrap();
    let webhooks = cluster.get::<ValidatingWebhookConfiguration>(VALIDATING).await.webhooks.unwrap();
    assert_eq!(webhooks[0].client_config.ca_bundle, Some(ByteString(bundle.into_bytes())));
    cluster.sees_all(&mut work).await;
    look(&mut work).await.unwrap();
    assert!(cluster.calls().await.is_empty());
}

#[tokio::test]
async fn no_leaf_is_shown_before_the_webhook_configurations_were_looked_for() {
    let (cluster, config) = (Cluster::new(), config());
    let mut work = Work::new(&config, Calls::new(cluster.client(), None));
    cluster.sees_both(&mut work).await;
    look(&mut work).await.unwrap();
    work.take(News::Mutating(Sight::Failed("forbidden".into())));
    look(&mut work).await.unwrap();
    assert_eq!(cluster.calls().await, [SECRET, CONFIG_MAP]);
    assert!(!cluster.has_leaf().await);
    work.take(News::Validating(Sight::Absent));
    look(&mut work).await.unwrap();
    assert_eq!(cluster.calls().await, [SECRET]);
    assert!(cluster.has_leaf().await);
    // They come later.
    cluster.sees_all(&mut work).await;
    look(&mut work).await.unwrap();
    assert_eq!(cluster.calls().await, [MUTATING, VALIDATING]);
}

#[tokio::test]
async fn nothing_is_made_where_an_object_is_missing() {
    let (cluster, config) = (Cluster::new(), config());
    let mut work = Work::new(&config, Calls::new(cluster.client(), None));
    cluster.sees_all(&mut work).await;
    work.take(News::ConfigMap(Sight::Absent));
    look(&mut work).await.unwrap();
    assert!(cluster.calls().await.is_empty());
}

#[tokio::test]
async fn whoever_was_faster_is_waited_for() {
    let (cluster, config) = (Cluster::new(), config());
    let mut work = Work::new(&config, Calls::new(cluster.client(), None));
    cluster.sees_all(&mut work).await;
    cluster.disturb(SECRET, json!({ "data": { "other": "YQ==" } })).await;
    assert_eq!(look(&mut work).await, None);
    assert_eq!(cluster.calls().await, [SECRET]);
    cluster.sees_all(&mut work).await;
    look(&mut work).await.unwrap();
    assert!(cluster.has_leaf().await);
    assert!(cluster.get::<Secret>(SECRET).await.data.unwrap().contains_key("other"));
}

#[tokio::test]
async fn a_webhook_that_cannot_be_helped_keeps_neither_gateways_nor_the_other_away() {
    let (cluster, config) = (Cluster::new(), config());
    let mut work = Work::new(&config, Calls::new(cluster.client(), None));
    cluster.refuse(MUTATING, 403).await;
    cluster.sees_all(&mut work).await;
    assert_eq!(look(&mut work).await, None);
    assert_eq!(cluster.calls().await, [SECRET, CONFIG_MAP, MUTATING, VALIDATING, SECRET]);
    assert!(cluster.has_leaf().await);
    assert_eq!(look(&mut work).await, None);
    assert_eq!(cluster.calls().await, [MUTATING]);
}

#[tokio::test]
async fn whoever_undoes_it_is_answered_at_once_and_then_not_so_soon() {
    let undone = json!([{ "path": "/webhooks/0/clientConfig/caBundle", "value": "YQ==" }]);
    for (path, change) in [(CONFIG_MAP, json!({ "data": null })), (MUTATING, undone)] {
        let (cluster, config) = (Cluster::new(), config());
        let mut work = Work::new(&config, Calls::new(cluster.client(), None));
        cluster.sees_all(&mut work).await;
        look(&mut work).await.unwrap();
        cluster.calls().await;
        cluster.disturb(path, change.clone()).await;
        cluster.sees_all(&mut work).await;
        look(&mut work).await.unwrap();
        assert_eq!(cluster.calls().await, [path]);
        cluster.disturb(path, change).await;
        cluster.sees_all(&mut work).await;
        let again = look(&mut work).await.unwrap();
        assert!(cluster.calls().await.is_empty(), "{path}");
        assert!((20..=30).contains(&again.as_secs()), "{again:?}");
        // The other configuration does not wait with it.
        cluster
            .disturb(VALIDATING, json!([{ "path": "/webhooks/0/clientConfig/caBundle", "value": "YQ==" }]))
            .await;
        cluster.sees_all(&mut work).await;
        let again = look(&mut work).await.unwrap();
        assert_eq!(cluster.calls().await, [VALIDATING]);
        assert!((20..=30).contains(&again.as_secs()), "{again:?}");
    }
}

#[tokio::test]
async fn a_bundle_that_cannot_be_written_keeps_no_leaf_from_being_renewed() {
    let (cluster, mut config) = (Cluster::new(), config());
    let mut work = Work::new(&config, Calls::new(cluster.client(), None));
    cluster.sees_all(&mut work).await;
    look(&mut work).await.unwrap();
    cluster.calls().await;
    cluster.disturb(CONFIG_MAP, json!({ "data": null })).await;
    cluster.refuse(CONFIG_MAP, 422).await;
    config.names.insert("other.svc".into());
    let mut work = Work::new(&config, Calls::new(cluster.client(), None));
    cluster.sees_all(&mut work).await;
    assert_eq!(look(&mut work).await, None);
    assert_eq!(cluster.calls().await, [CONFIG_MAP, SECRET]);
    assert_eq!(look(&mut work).await, None);
    assert_eq!(cluster.calls().await, [CONFIG_MAP]);
}

#[tokio::test]
async fn an_echo_of_what_was_before_the_last_write_makes_no_second_leaf() {
    let (cluster, config) = (Cluster::new(), config());
    let mut work = Work::new(&config, Calls::new(cluster.client(), None));
    let before = cluster.get::<Secret>(SECRET).await;
    cluster.sees_all(&mut work).await;
    look(&mut work).await.unwrap();
    cluster.calls().await;
    work.take(News::Secret(Sight::There(before)));
    look(&mut work).await.unwrap();
    assert!(cluster.calls().await.is_empty());
}

#[tokio::test]
async fn after_a_failure_no_news_shortens_the_pause() {
    let (cluster, config) = (Cluster::new(), config());
    let work = Work::new(&config, Calls::new(cluster.client(), None));
    cluster.refuse(SECRET, 500).await;
    let (sender, receiver) = mpsc::channel(1);
    let news = futures::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<News>| {
        Some((receiver.recv().await?, receiver))
    });
    tokio::pin!(news);
    let feed = async {
        sender.send(News::ConfigMap(cluster.sight(CONFIG_MAP).await)).await.unwrap();
        for _ in 0..100 {
            sender.send(News::Secret(cluster.sight(SECRET).await)).await.unwrap();
        }
    };
    tokio::select! {
        never = work.run(news) => match never {},
        () = feed => {}
    }
    let calls = cluster.calls().await.len();
    assert!((1..20).contains(&calls), "{calls}");
}
