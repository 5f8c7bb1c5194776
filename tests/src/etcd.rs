//! One etcd for one control plane, reached over Unix sockets: no port to choose, nobody else to meet.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::process::{Lifetime, Program, Running};
use crate::state::RunDir;

/// It is up in a tenth of a second on an idle machine.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// A running etcd and the sockets it listens at.
#[derive(Debug)]
pub(crate) struct Etcd {
    process: Running,
    sockets: Sockets,
}

#[derive(Clone, Debug)]
struct Sockets {
    /// gRPC, for the API server.
    grpc: PathBuf,
    /// The same calls as JSON over HTTP/1.1, for us. A socket of its own, as etcd advises: where both share one, it has
    /// to guess the protocol of each connection.
    http: PathBuf,
}

impl Etcd {
    /// Starts it with its data in `folder` and waits until it is healthy.
    pub(crate) async fn start(path: &Path, folder: &Path, lifetime: Lifetime, run: &RunDir) -> Result<Self> {
        let sockets = Sockets { grpc: folder.join("etcd.sock"), http: folder.join("etcd-http.sock") };
        let peer = folder.join("etcd-peer.sock");
        // What it advertises must have a port and is asked by no one: it is its only member.
        let advertised = "http://localhost:2380";
        let args = [
            "--name=testbed".to_owned(),
            format!("--data-dir={}", folder.join("etcd").display()),
            format!("--listen-client-urls={}", url(&sockets.grpc)),
            format!("--listen-client-http-urls={}", url(&sockets.http)),
            format!("--advertise-client-urls={advertised}"),
            format!("--listen-peer-urls={}", url(&peer)),
            format!("--initial-advertise-peer-urls={advertised}"),
            format!("--initial-cluster=testbed={advertised}"),
            // The data need not survive a power cut, and the disk is the slowest part of a test machine.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let mut process = Program::new("etcd", path).args(args).lifetime(lifetime).start(run)?;
        let probed = sockets.clone();
        process
            .until("etcd is healthy", START_DEADLINE, async || {
                let health = probed.call(Method::GET, "/health", None).await?;
                ensure!(health["health"] == "true", "{health}");
                Ok(())
            })
            .await?;
        Ok(Self { process, sockets })
    }

    /// What the API server's `--etcd-servers` takes.
    pub(crate) fn url(&self) -> String {
        url(&self.sockets.grpc)
    }

    /// Forgets all history before now: a watch that wants to go on from an older revision is refused.
    pub(crate) async fn compact(&self) -> Result<()> {
        // A read of one key, whatever it is, tells the revision; "AA==" is the byte 0.
        let read = self.sockets.call(Method::POST, "/v3/kv/range", Some(json!({ "key": "AA==" }))).await?;
        let revision = read["header"]["revision"].as_str().context("etcd did not tell its revision")?;
        let order = json!({ "revision": revision, "physical": true });
        self.sockets.call(Method::POST, "/v3/kv/compaction", Some(order)).await?;
        Ok(())
    }

    /// As [`Running::exit_status`].
    pub(crate) fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.process.exit_status()
    }

    /// As [`Running::leave_running`].
    pub(crate) fn leave_running(self) {
        self.process.leave_running();
    }
}

impl Sockets {
    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        let stream = UnixStream::connect(&self.http).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request =
            Request::builder().method(method).uri(path).header("host", "etcd").body(Full::new(body))?;
        let exchange = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            ensure!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
            Ok(serde_json::from_slice(&body)?)
        };
        // The sender is dropped with the exchange, which ends the connection.
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    }
}

fn url(socket: &Path) -> String {
    format!("unix://{}", socket.display())
}
