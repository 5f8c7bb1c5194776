//! An API server that is slow, refuses, or is gone, as a controller behind this proxy finds it.
//!
//! Owns the listener and the count of calls. Never changes a call or an answer that it passes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyDataStream, BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use krypton_e2e::cluster::Cluster;
use kube::client::Body;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How the API server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Healthy,
    /// Each call waits for so long before it is passed on.
    Slow(Duration),
    /// Each call is answered 429, as API priority and fairness does.
    Refusing,
    /// Connections are cut, and new ones ended at once.
    Away,
}

/// The proxy; dropping it ends it.
pub(crate) struct ApiProxy {
    behaviour: watch::Sender<Behaviour>,
    calls: Arc<AtomicUsize>,
    folder: TempDir,
    _server: JoinSet<()>,
}

type AnswerBody = UnsyncBoxBody<Bytes, anyhow::Error>;

#[derive(Clone)]
struct Passer {
    cluster: Cluster,
    behaviour: watch::Receiver<Behaviour>,
    calls: Arc<AtomicUsize>,
}

// === impl ApiProxy ===

impl ApiProxy {
    /// One before `cluster`, healthy at first.
    pub(crate) async fn start(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let folder = TempDir::new().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{ "name": "proxy", "cluster": {
                "server": format!("http://{}", listener.local_addr().unwrap()),
            }}],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "" } }],
        });
        std::fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let (behaviour, seen) = watch::channel(Behaviour::Healthy);
        let calls = Arc::new(AtomicUsize::new(0));
        let passer = Passer { cluster: cluster.clone(), behaviour: seen, calls: Arc::clone(&calls) };
        let mut server = JoinSet::new();
        server.spawn(serve(listener, passer));
        Self { behaviour, calls, folder, _server: server }
    }

    /// The way through it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// From now on it behaves so. Who is gone cuts what is under way; the others let it go on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.behaviour.send_replace(behaviour);
    }

    /// Calls since the last time that this was asked, with connections that were ended at once.
    pub(crate) fn take_calls(&self) -> usize {
        self.calls.swap(0, Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, passer: Passer) {
    let mut connections = JoinSet::new();
    while let Ok((connection, _)) = listener.accept().await {
        connections.spawn(passer.clone().serve(connection));
        while connections.try_join_next().is_some() {}
    }
}

// === impl Passer ===

impl Passer {
    async fn serve(self, connection: TcpStream) {
        let mut behaviour = self.behaviour.clone();
        if *behaviour.borrow() == Behaviour::Away {
            self.calls.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let service = service_fn(|request| self.clone().pass(request));
        let served = hyper::server::conn::http1::Builder::new();
        tokio::select! {
            // How a connection ends is the controller's affair.
            _ = served.serve_connection(TokioIo::new(connection), service) => {}
            _ = behaviour.wait_for(|behaviour| *behaviour == Behaviour::Away) => {}
        }
    }

    async fn pass(self, request: Request<Incoming>) -> Result<Response<AnswerBody>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let behaviour = *self.behaviour.borrow();
        match behaviour {
            Behaviour::Healthy => {}
            Behaviour::Slow(pause) => tokio::time::sleep(pause).await,
            Behaviour::Refusing => return Ok(refusal()),
            Behaviour::Away => bail!("away"),
        }
        let (mut head, body) = request.into_parts();
        head.headers.remove(header::HOST);
        head.uri = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
        let body = Body::from(body.collect().await?.to_bytes().to_vec());
        let answer = self.cluster.client().send(Request::from_parts(head, body)).await?;
        let (head, body) = answer.into_parts();
        let frames = BodyDataStream::new(body).map(|data| Ok(Frame::data(data?)));
        Ok(Response::from_parts(head, StreamBody::new(frames).boxed_unsync()))
    }
}

fn refusal() -> Response<AnswerBody> {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 429, "reason": "TooManyRequests",
        "message": "too many requests, please try again later",
    });
    let body = Full::from(status.to_string()).map_err(anyhow::Error::from).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    response
}
