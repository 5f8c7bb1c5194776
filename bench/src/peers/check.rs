//! The proof that a peer does the work that it is measured for.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::{Method, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use krypton_e2e::client::{Answer, Body, Events, KeepingClient, full, keeping_client, request};
use serde_json::Value;
use tokio::time::timeout;

use super::{Peer, PeerKind};
use crate::origin::body::first_wrong;

/// For a machine that is busy.
const SOON: Duration = Duration::from_secs(30);

/// Bytes of a usual answer, and of one that is larger than any buffer here.
const SIZES: [usize; 2] = [1024, 300_000];

const UPLOAD: usize = 1 << 20;

struct Caller<'a> {
    peer: &'a Peer,
    client: KeepingClient,
}

/// All of it.
pub(super) async fn check(peer: &Peer) -> anyhow::Result<()> {
    let client = if peer.is_h2c {
        Client::builder(TokioExecutor::new()).http2_only(true).build_http::<Body>()
    } else {
        keeping_client()
    };
    let caller = Caller { peer, client };
    for agent in [0, peer.agents - 1] {
        for size in SIZES {
            let answer = caller.get(agent, &format!("bytes/{size}")).await?;
            ensure!(answer.status == 200, "a call to agent {agent} is answered {}", answer.status);
            ensure!(answer.body.len() == size, "{} of {size} bytes came", answer.body.len());
            ensure!(first_wrong(&answer.body).is_none(), "wrong bytes came");
        }
    }
    caller.forwarded().await.context("what the agent sees")?;
    caller.upload().await.context("an upload")?;
    caller.event().await.context("an event")?;
    if peer.kind != PeerKind::Direct {
        let answer = caller.get(peer.agents, "bytes/1").await?;
        ensure!(answer.status == 404, "an unknown agent is answered {}", answer.status);
    }
    Ok(())
}

// === impl Caller ===

impl Caller<'_> {
    /// The prefix is stripped, the query stays, the headers of all peers are added.
    async fn forwarded(&self) -> anyhow::Result<()> {
        let answer = self.get(0, "echo?a=%2F").await?;
        ensure!(answer.status == 200, "it is answered {}", answer.status);
        let seen: Value = serde_json::from_slice(&answer.body)?;
        ensure!(seen["target"] == "/echo?a=%2F", "the target is {}", seen["target"]);
        if matches!(self.peer.kind, PeerKind::Direct | PeerKind::Go) {
            return Ok(());
        }
        let header = |name: &str| {
            let headers = seen["headers"].as_array()?;
            headers.iter().find(|pair| pair[0] == name)?[1].as_str().map(str::to_owned)
        };
        // Envoy says an address of the machine's own instead of that of a client on loopback.
        let client = header("x-forwarded-for").and_then(|client| client.parse::<IpAddr>().ok());
        ensure!(client.is_some(), "x-forwarded-for is {:?}", header("x-forwarded-for"));
        let expected = [
            ("x-forwarded-proto", "http".to_owned()),
            ("x-forwarded-host", self.peer.address.to_string()),
            ("x-forwarded-prefix", self.peer.target(0, "").trim_end_matches('/').to_owned()),
        ];
        for (name, value) in expected {
            ensure!(header(name).as_ref() == Some(&value), "{name} is {:?}, not {value:?}", header(name));
        }
        ensure!(header("x-request-id").is_some_and(|id| id.len() >= 32), "there is no id of the call");
        Ok(())
    }

    async fn upload(&self) -> anyhow::Result<()> {
        let target = self.peer.target(0, "upload?bytes=2048");
        let post = request(Method::POST, self.peer.address, &target).body(full(vec![b'x'; UPLOAD]))?;
        let answer = timeout(SOON, async { Answer::read(self.client.request(post).await?).await });
        let answer = answer.await.context("no answer")??;
        ensure!(answer.status == 200, "it is answered {}", answer.status);
        ensure!(answer.json()["received"] == UPLOAD, "{} bytes arrived", answer.json()["received"]);
        ensure!(answer.body.len() == 2048, "{} bytes came back", answer.body.len());
        Ok(())
    }

    /// The origin sends one event and no second one: it comes, or the peer holds it back.
    async fn event(&self) -> anyhow::Result<()> {
        let mut events = Events::of(timeout(SOON, self.send(0, "hold")).await.context("no answer")??);
        let event = timeout(SOON, events.next()).await.context("it is held back")??;
        ensure!(event.is_some_and(|event| event.contains(r#""seq":0"#)), "it is not the first");
        Ok(())
    }

    async fn get(&self, agent: usize, rest: &str) -> anyhow::Result<Answer> {
        let answer = async { Answer::read(self.send(agent, rest).await?).await };
        timeout(SOON, answer).await.with_context(|| format!("no answer to {rest}"))?
    }

    async fn send(&self, agent: usize, rest: &str) -> anyhow::Result<Response<Incoming>> {
        let get = request(Method::GET, self.peer.address, &self.peer.target(agent, rest)).body(full(""))?;
        Ok(self.client.request(get).await?)
    }
}
