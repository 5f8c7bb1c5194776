//! The server as a client meets it, over TLS.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::Request;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::*;
use crate::certificate::tests::{mk_certificate, mk_pair};
use crate::certificate::{Alpn, Certificate, Pair};

/// Far above what anything takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// Webhooks that run.
struct Fixture {
    address: SocketAddr,
    shown: Certificate,
    certificate: String,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Fixture {
    async fn start(adjust: impl FnOnce(&mut Webhooks)) -> Self {
        let mut shown = mk_certificate();
        let any = "127.0.0.1:0".parse().unwrap();
        let (mut webhooks, address) = Webhooks::bind(any, shown.configs(Alpn::Http1)).await.unwrap();
        adjust(&mut webhooks);
        let certificate = show(&mut shown);
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(webhooks.serve(shutdown.clone()));
        Self { address, shown, certificate, shutdown, tasks }
    }

    /// A connection that trusts `certificate` alone.
    async fn connect(&self, certificate: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn client(&mut self) -> SendRequest<Body> {
        let stream = self.connect(&self.certificate).await.unwrap();
        let (client, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        self.tasks.spawn(async move {
            connection.await.ok();
        });
        client
    }
}

/// Shows a new certificate; which.
fn show(shown: &mut Certificate) -> String {
    let (certificate, key) = mk_pair();
    shown.take(Pair { certificate: certificate.clone().into(), key: key.into() }).unwrap();
    certificate
}

async fn post(client: &mut SendRequest<Body>, path: &str, body: impl Into<Body>) -> (StatusCode, Bytes) {
    let request = Request::post(path).header("host", "localhost").body(body.into()).unwrap();
    let response = client.send_request(request).await.unwrap();
    (response.status(), response.into_body().collect().await.unwrap().to_bytes())
}

fn mk_review(spec: &Value) -> String {
    let object = json!({
        "apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": { "name": "a" }, "spec": spec,
    });
    let resource = json!({ "group": "krypton.ai", "version": "v1alpha1", "resource": "agents" });
    let kind = json!({ "group": "krypton.ai", "version": "v1alpha1", "kind": "Agent" });
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "kind": kind, "resource": resource, "operation": "CREATE", "userInfo": {}, "object": object,
        },
    })
    .to_string()
}

async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, test).await.expect("in time")
}

#[tokio::test]
async fn both_webhooks_answer_on_one_connection() {
    in_time(async {
        let mut fixture = Fixture::start(|_| {}).await;
        let mut client = fixture.client().await;
        let (status, body) =
            post(&mut client, VALIDATE_PATH, mk_review(&json!({ "image": "a:1", "port": 0 }))).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(false)));
        assert_eq!(answer["response"]["status"]["details"]["causes"][0]["field"], "spec.port");

        let (status, body) = post(&mut client, MUTATE_PATH, mk_review(&json!({ "image": "a:1" }))).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(true)));
        assert_eq!(answer["response"]["patchType"], "JSONPatch");

        for (path, body, expected) in [
            (VALIDATE_PATH, "{".to_owned(), StatusCode::BAD_REQUEST),
            ("/validate", mk_review(&json!({})), StatusCode::NOT_FOUND),
            (VALIDATE_PATH, "x".repeat(MAX_BODY + 1), StatusCode::PAYLOAD_TOO_LARGE),
        ] {
            let mut client = fixture.client().await;
            assert_eq!(post(&mut client, path, body).await.0, expected, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    in_time(async {
        let mut fixture = Fixture::start(|_| {}).await;
        let mut old = fixture.client().await;
        let next = show(&mut fixture.shown);
        fixture.connect(&next).await.unwrap();
        fixture.connect(&fixture.certificate).await.unwrap_err();
        let review = mk_review(&json!({ "image": "a:1" }));
        assert_eq!(post(&mut old, VALIDATE_PATH, review).await.0, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn who_does_not_speak_is_closed_and_makes_room() {
    in_time(async {
        let fixture = Fixture::start(|webhooks| {
            webhooks.limits = Limits {
                connections: 1,
                handshake: Duration::from_millis(50),
                header: Duration::from_millis(50),
                ..Limits::default()
            };
        })
        .await;
        // No handshake.
        let mut silent = TcpStream::connect(fixture.address).await.unwrap();
        assert_eq!(silent.read(&mut [0; 1]).await.unwrap(), 0);
        // No header, then half a header: each has the only place until its time is over.
        for start in ["", "POST / HTTP/1.1\r\nHost:"] {
            let mut slow = fixture.connect(&fixture.certificate).await.unwrap();
            slow.write_all(start.as_bytes()).await.unwrap();
            let mut rest = Vec::new();
            slow.read_to_end(&mut rest).await.ok();
            assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{rest:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn shutdown_ends_idle_connections_and_lets_a_question_be_answered() {
    in_time(async {
        let mut fixture = Fixture::start(|_| {}).await;
        let mut idle = fixture.client().await;
        idle.ready().await.unwrap();
        let mut asking = fixture.connect(&fixture.certificate).await.unwrap();
        let review = mk_review(&json!({ "image": "a:1" }));
        let (first, rest) = review.split_at(10);
        let head = format!(
            "POST {VALIDATE_PATH} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            review.len()
        );
        asking.write_all(head.as_bytes()).await.unwrap();
        // The handler waits for the body now.
        let mut go_on = [0; 25];
        asking.read_exact(&mut go_on).await.unwrap();
        assert!(go_on.starts_with(b"HTTP/1.1 100 Continue"));
        asking.write_all(first.as_bytes()).await.unwrap();
        fixture.shutdown.cancel();
        asking.write_all(rest.as_bytes()).await.unwrap();
        let mut answer = String::new();
        asking.read_to_string(&mut answer).await.ok();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"allowed\":true"), "{answer}");
        while fixture.tasks.join_next().await.is_some() {}
        assert!(TcpStream::connect(fixture.address).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn without_a_certificate_connections_are_closed_and_with_one_served() {
    in_time(async {
        let mut shown = mk_certificate();
        let any = "127.0.0.1:0".parse().unwrap();
        let (webhooks, address) = Webhooks::bind(any, shown.configs(Alpn::Http1)).await.unwrap();
        let (mut tasks, shutdown) = (JoinSet::new(), CancellationToken::new());
        tasks.spawn(webhooks.serve(shutdown.clone()));
        let mut refused = TcpStream::connect(address).await.unwrap();
        assert_eq!(refused.read(&mut [0; 1]).await.unwrap_or(0), 0);
        let certificate = show(&mut shown);
        let mut fixture = Fixture { address, shown, certificate, shutdown, tasks };
        let mut client = fixture.client().await;
        let review = mk_review(&json!({ "image": "a:1" }));
        assert_eq!(post(&mut client, VALIDATE_PATH, review).await.0, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn a_port_that_is_taken_names_its_flag() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let error = Webhooks::bind(taken, mk_certificate().configs(Alpn::Http1)).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("--webhook-listen {taken} cannot be listened on: ")), "{error}");
}
