//! `call`: one call of an agent, its answer on the terminal as it comes.
//!
//! Prints the body and nothing else on standard output. An event stream is shown as the data of its events; a failure
//! of the gateway's own as a sentence on standard error.

use std::io::Write as _;

use ::http::{HeaderValue, Method, Request, header};
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;

use crate::args::{CallArgs, Global};
use crate::cluster::{Cluster, Component};
use crate::doctor::flags;
use crate::doctor::refusal::{self, GatewayError};
use crate::http::{Answer, Outgoing, Way, empty, full};
use crate::sse::Events;
use crate::{forward, progress};

/// Most of a failure that is read for its sentence.
const MAX_FAILURE: usize = 1024 * 1024;

/// What every path of an agent's begins with at the gateway.
const PREFIX: &str = "/v1/agents/";

/// An agent and what stands behind its name.
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    /// `None`: that of the context.
    namespace: Option<&'a str>,
    name: &'a str,
    /// With the slash or question mark that it begins with; empty for none.
    rest: &'a str,
}

/// Runs the command. `false`: the answer is not 2xx.
pub(crate) async fn run(global: &Global, args: CallArgs) -> Result<bool> {
    let target = parse(&args.agent, global.namespace.as_deref())?;
    let cluster = match args.url {
        Some(_) if target.namespace.is_some() => None,
        // Without a namespace, the context has one.
        _ => Some(Cluster::connect(global).await?),
    };
    let namespace = match (target.namespace, &cluster) {
        (Some(namespace), _) => namespace,
        (None, Some(cluster)) => cluster.default_namespace(),
        (None, None) => bail!("name the agent's namespace: NAMESPACE/NAME, or -n"),
    };
    let path = format!("{PREFIX}{namespace}/{}{}", target.name, target.rest);
    let request = request(&path, &args).await?;
    let send = async {
        match (args.url.clone(), &cluster) {
            (Some(url), _) => Ok(Way::new(url, &args.connect)?.send(request).await?),
            (None, Some(cluster)) => through_a_gateway(cluster, global, request).await,
            (None, None) => bail!("there is no cluster to call through; give --url"),
        }
    };
    let answer = progress::during("waiting for the answer", None, send).await?;
    if answer.status.is_success() {
        print(answer, args.raw).await?;
        return Ok(true);
    }
    let status = answer.status;
    let may_be_gateways = refusal::is_of_gateway(&answer);
    let body = answer.text(MAX_FAILURE).await.unwrap_or_default();
    if let Some(error) = gateways_error(may_be_gateways, &body) {
        eprintln!("{status}: {} ({}, request {})", error.error, error.code, error.request_id);
    } else {
        eprintln!("{status}");
        writeln!(std::io::stdout(), "{body}")?;
    }
    Ok(false)
}

/// The gateway's own error. An agent's may have the same fields, but neither the gateway's headers nor a request ID;
/// it is shown as it is.
fn gateways_error(has_headers: bool, body: &str) -> Option<GatewayError> {
    GatewayError::parse(body).filter(|error| has_headers && !error.request_id.is_empty())
}

/// Takes `NAMESPACE/NAME/PATH`, or `NAME/PATH` where the namespace is given.
///
/// `NAME` alone is an agent of the context's namespace. A path of the gateway's names its namespace whatever is given.
fn parse<'a>(text: &'a str, namespace: Option<&'a str>) -> Result<Target<'a>> {
    let end = |text: &str| text.find(['/', '?']).unwrap_or(text.len());
    if let Some(path) = text.strip_prefix(PREFIX) {
        let target = parse(path, None)?;
        if target.namespace.is_none() || namespace.is_some_and(|given| target.namespace != Some(given)) {
            bail!("{text:?} is not {PREFIX}NAMESPACE/NAME/PATH, with the namespace of -n if that is given");
        }
        return Ok(target);
    }
    let text = text.strip_prefix('/').unwrap_or(text);
    let (first, rest) = text.split_at(end(text));
    let target = match (namespace, rest.strip_prefix('/')) {
        (None, Some(behind)) => {
            let (name, rest) = behind.split_at(end(behind));
            Target { namespace: Some(first), name, rest }
        }
        _ => Target { namespace, name: first, rest },
    };
    if target.name.is_empty() || target.namespace == Some("") {
        bail!("{text:?} names no agent: write NAMESPACE/NAME/PATH, or NAME/PATH with -n");
    }
    Ok(target)
}

async fn request(path: &str, args: &CallArgs) -> Result<Request<Outgoing>> {
    let data = match args.data.as_deref() {
        None => None,
        Some("@-") => {
            let mut data = Vec::new();
            tokio::io::stdin().read_to_end(&mut data).await.context("cannot read standard input")?;
            Some(Bytes::from(data))
        }
        Some(data) => match data.strip_prefix('@') {
            Some(file) => {
                Some(tokio::fs::read(file).await.with_context(|| format!("cannot read {file}"))?.into())
            }
            None => Some(Bytes::copy_from_slice(data.as_bytes())),
        },
    };
    let method = args.method.clone().unwrap_or(if data.is_some() { Method::POST } else { Method::GET });
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in &args.headers {
        builder = builder.header(name, value);
    }
    let is_json = data.is_some();
    let mut request = builder.body(data.map_or_else(empty, full)).context("the path cannot be called")?;
    let headers = request.headers_mut();
    if is_json {
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    }
    headers
        .entry(header::ACCEPT)
        .or_insert(HeaderValue::from_static("application/json, text/event-stream;q=0.9, */*;q=0.8"));
    Ok(request)
}

async fn through_a_gateway(cluster: &Cluster, global: &Global, request: Request<Outgoing>) -> Result<Answer> {
    let gateways = cluster.gateways(global).await?;
    let gateway = gateways.iter().find(|pod| forward::is_ready(pod)).with_context(|| {
        format!("no gateway of the release {} in {} is ready", global.release, global.system_namespace)
    })?;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &global.system_namespace);
    // A gateway that serves some hosts only refuses all others. Who may not read Deployments gives one by -H.
    let deployment = cluster.deployment(global, Component::Gateway).await.ok().flatten();
    let host = host(deployment.as_ref());
    forward::send(&pods, &forward::name(gateway), forward::GATEWAY_HTTP, &host, request).await
}

/// The host to call the gateways of `deployment` by.
fn host(deployment: Option<&Value>) -> String {
    let allowed = deployment.map(flags::allowed_hosts).unwrap_or_default();
    allowed.into_iter().next().unwrap_or_else(|| forward::LOCALHOST.to_owned())
}

async fn print(mut answer: Answer, raw: bool) -> Result<()> {
    let mut events = (answer.is_event_stream() && !raw).then(Events::default);
    let mut out = std::io::stdout();
    while let Some(bytes) = answer.next().await.context("the answer was cut")? {
        match &mut events {
            Some(events) => {
                for data in events.push(&bytes) {
                    writeln!(out, "{data}")?;
                }
            }
            None => out.write_all(&bytes)?,
        }
        // As it comes: a line that is not ended stands there too.
        out.flush()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target<'a>(namespace: Option<&'a str>, name: &'a str, rest: &'a str) -> Target<'a> {
        Target { namespace, name, rest }
    }

    #[test]
    fn an_agent_is_named_with_and_without_its_namespace() {
        assert_eq!(parse("team-a/travel", None).unwrap(), target(Some("team-a"), "travel", ""));
        assert_eq!(
            parse("team-a/travel/a//b?c=/d", None).unwrap(),
            target(Some("team-a"), "travel", "/a//b?c=/d")
        );
        assert_eq!(parse("/team-a/travel/", None).unwrap(), target(Some("team-a"), "travel", "/"));
        assert_eq!(parse("travel/a", Some("team-a")).unwrap(), target(Some("team-a"), "travel", "/a"));
        assert_eq!(parse("travel?q", None).unwrap(), target(None, "travel", "?q"));
        let whole = "/v1/agents/team-a/travel/a?b";
        assert_eq!(parse(whole, None).unwrap(), target(Some("team-a"), "travel", "/a?b"));
        assert_eq!(parse(whole, Some("team-a")).unwrap(), target(Some("team-a"), "travel", "/a?b"));
        assert!(parse(whole, Some("team-b")).is_err());
        for wrong in ["", "/", "team-a/", "//x", "/v1/agents/", "/v1/agents/team-a", "/v1/agents/team-a/?x"] {
            assert!(parse(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_agents_own_error_is_not_the_gateways() {
        let own = r#"{"error":"no such city","code":"bad_city","details":{}}"#;
        let gateways = r#"{"error":"e","code":"bad_path","requestId":"1"}"#;
        assert!(gateways_error(true, own).is_none());
        assert!(gateways_error(false, gateways).is_none());
        assert_eq!(gateways_error(true, gateways).unwrap().code, "bad_path");
    }

    #[test]
    fn a_gateway_is_called_by_a_host_that_it_serves() {
        let gateway = serde_json::json!({ "spec": { "template": { "spec": { "containers": [
            { "args": ["--allowed-hosts=a.example.com,b.example.com"] }] } } } });
        assert_eq!(host(Some(&gateway)), "a.example.com");
        assert_eq!(host(None), "localhost");
    }
}
