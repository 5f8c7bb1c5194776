//! What the tests call the agent with.

use std::future::Future;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{Method, Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use krypton_example_agent::{Args, Server, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Far more than any step takes; reaching it is a failure.
const DEADLINE: Duration = Duration::from_secs(30);

/// An HTTP client of one instance.
pub(crate) struct Client {
    hyper: Hyper<HttpConnector, Body>,
    pub(crate) base: String,
}

/// An instance of the name `tester`.
pub(crate) async fn start() -> Server {
    start_with(Args::local("tester")).await
}

pub(crate) async fn start_with(args: Args) -> Server {
    serve(args).await.expect("loopback has a free port")
}

/// Fails instead of hanging.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("done within the deadline")
}

impl Client {
    pub(crate) fn new(server: &Server) -> Self {
        let hyper = Hyper::builder(TokioExecutor::new()).build_http();
        Self { hyper, base: format!("http://{}", server.address()) }
    }

    pub(crate) fn h2c(server: &Server) -> Self {
        let hyper = Hyper::builder(TokioExecutor::new()).http2_only(true).build_http();
        Self { hyper, base: format!("http://{}", server.address()) }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Incoming> {
        within(self.hyper.request(request)).await.expect("an answer")
    }

    pub(crate) async fn try_get(
        &self,
        path: &str,
    ) -> Result<Response<Incoming>, impl std::error::Error + use<>> {
        within(self.hyper.request(self.request(Method::GET, path).body(Body::empty()).expect("well formed")))
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Response<Incoming> {
        self.try_get(path).await.expect("an answer")
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> Response<Incoming> {
        self.send(self.request(Method::POST, path).body(body.into()).expect("well formed")).await
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("{}{path}", self.base))
    }
}

/// The whole body.
pub(crate) async fn bytes(response: Response<Incoming>) -> Bytes {
    within(response.into_body().collect()).await.expect("a clean end").to_bytes()
}

pub(crate) async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(bytes(response).await.to_vec()).expect("UTF-8")
}

pub(crate) async fn json(response: Response<Incoming>) -> Value {
    serde_json::from_slice(&bytes(response).await).expect("JSON")
}

/// The next piece of a body; `None` at a clean end, an error where it was broken off.
pub(crate) async fn frame(response: &mut Response<Incoming>) -> Option<Result<Bytes, hyper::Error>> {
    let frame = within(response.body_mut().frame()).await?;
    Some(frame.map(|frame| frame.into_data().expect("no trailers")))
}

/// The data of all events of a whole body.
pub(crate) fn data_of(events: &str) -> Vec<String> {
    events.lines().filter_map(|line| line.strip_prefix("data:")).map(|data| data.trim().to_owned()).collect()
}

/// The data of all events, as JSON. Empty ones, which prime a reconnect, are left out.
pub(crate) async fn events(response: Response<Incoming>) -> Vec<Value> {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let data = data_of(&text(response).await);
    data.iter()
        .filter(|data| !data.is_empty())
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect()
}

/// Sends bytes as they are and reads until the other side is done, well or badly.
pub(crate) async fn raw(server: &Server, request: &[u8]) -> (Vec<u8>, std::io::Result<()>) {
    let mut stream = connect(server).await;
    stream.write_all(request).await.expect("written");
    let mut answer = Vec::new();
    let end = within(stream.read_to_end(&mut answer)).await.map(drop);
    (answer, end)
}

pub(crate) async fn connect(server: &Server) -> TcpStream {
    within(TcpStream::connect(server.address())).await.expect("the agent listens")
}

/// A GET over HTTP/1.1 that asks to keep nothing.
pub(crate) fn get_request(path: &str) -> Vec<u8> {
    format!("GET {path} {:?}\r\nHost: h\r\nConnection: close\r\n\r\n", Version::HTTP_11).into_bytes()
}
