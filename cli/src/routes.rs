//! `routes`: what every gateway holds, which version of it, and where gateways differ.
//!
//! Asks each gateway's own admin port, since only a gateway knows what it routes by. What is compared and shown is
//! [`view`]'s.

pub(crate) mod view;

use std::io::Write as _;

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use krypton_crd::keys;
use kube::Api;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

use crate::args::{Global, Output, RoutesArgs};
use crate::cluster::{Cluster, Component};
use crate::doctor::flags;
use crate::{forward, progress};
use view::{Asked, Page, Table, View};

/// Gateways asked at one time.
const ASKED: usize = 8;

/// Routes on a page: the most that a gateway gives.
const PAGE: usize = 1000;

/// Runs the command. `false`: gateways differ, or one did not answer.
pub(crate) async fn run(global: &Global, args: &RoutesArgs) -> Result<bool> {
    let cluster = Cluster::connect(global).await?;
    let work = async {
        let gateways = cluster.gateways(global).await?;
        if gateways.is_empty() {
            bail!(
                "no gateway pods of the release {} in {}; name the installation by --release and --system-namespace",
                global.release,
                global.system_namespace
            );
        }
        let (tables, agents) =
            tokio::join!(tables(&cluster, global, &gateways), agents(&cluster, global.namespace.as_deref()));
        anyhow::Ok((tables, agents?))
    };
    let (tables, agents) = progress::during("asking the gateways", None, work).await?;
    // Agents that the controllers do not look after are no gateway's. Who may not read Deployments is shown all.
    let watched = cluster.deployment(global, Component::Controller).await.ok().flatten();
    let watched = watched.map(|controller| flags::watched_namespaces(&controller)).unwrap_or_default();
    let agents = view::watched(agents, &watched);
    let view = View::of(&tables, &agents, global.namespace.as_deref());
    let mut out = std::io::stdout().lock();
    match args.output {
        Output::Text => write!(out, "{}", view.text(args.endpoints))?,
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&view).context("a view is JSON")?)?,
    }
    Ok(view.differences.is_empty())
}

/// The table of each gateway, in their order; none of one that is going away, which hears of no change any more.
pub(crate) async fn tables(cluster: &Cluster, global: &Global, gateways: &[Pod]) -> Vec<Asked> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &global.system_namespace);
    let staying = gateways.iter().filter(|pod| !forward::is_terminating(pod));
    let asked = stream::iter(staying).map(async |pod| {
        let gateway = forward::name(pod);
        let table = if forward::is_running(pod) {
            table(&pods, &gateway).await.map_err(|error| format!("{error:#}"))
        } else {
            Err("the pod does not run".to_owned())
        };
        Asked { gateway, table }
    });
    asked.buffered(ASKED).collect().await
}

async fn table(pods: &Api<Pod>, gateway: &str) -> Result<Table> {
    let mut table: Option<Table> = None;
    let mut after: Option<String> = None;
    loop {
        let behind = after.as_ref().map(|after| format!("&after={after}")).unwrap_or_default();
        let (status, body) =
            forward::ask(pods, gateway, &format!("/debug/routes?limit={PAGE}{behind}")).await?;
        if !status.is_success() {
            bail!("/debug/routes answers {status}");
        }
        let page: Page = serde_json::from_str(&body).context("/debug/routes answers something else")?;
        after.clone_from(&page.next);
        match &mut table {
            Some(table) => table.add(page),
            None => table = Some(Table::of(page)),
        }
        if after.is_none() {
            return table.context("no page");
        }
    }
}

/// All Agents as JSON: one that does not decode is still one.
pub(crate) async fn agents(cluster: &Cluster, namespace: Option<&str>) -> Result<Vec<Value>> {
    let kind = GroupVersionKind::gvk(keys::GROUP, keys::VERSION, keys::KIND);
    cluster.list_values(&ApiResource::from_gvk_with_plural(&kind, "agents"), namespace).await
}
