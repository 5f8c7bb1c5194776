//! `migrate`: takes away what the Go system left behind.
//!
//! Owns the reading, the asking and the writing; what is written is decided by [`plan`]. Nothing is written without
//! `--yes` or a person's word, and nothing that changed since it was read.

mod author;
mod defaults;
mod plan;

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write as _};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use krypton_crd::keys;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use crate::args::{Global, MigrateArgs, Part};
use crate::cluster::Cluster;
use crate::progress;
use plan::{Change, Facts, Kind, Plan, Wanted};

/// The component label of the Go system's manager.
const GO_COMPONENT: &str = "manager";

/// Writes at one time: quick for thousands of Agents, and no burden for the API server.
const WRITES: usize = 8;

/// The name of the definition.
const CRD: &str = "agents.krypton.ai";

/// How one write ended.
enum Written {
    Done,
    /// Somebody else wrote it in between, or it is gone.
    Changed,
    Failed(kube::Error),
}

/// What follows when the plan was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing can be written now. What was left alone, with its reason, is no failure.
    End,
    /// It stays with what was shown.
    Tell,
    Ask,
    Write,
}

/// Runs the command. `false`: something is to be written, or a write failed.
pub(crate) async fn run(global: &Global, args: &MigrateArgs) -> Result<bool> {
    let cluster = Cluster::connect(global).await?;
    let parts: BTreeSet<Part> =
        Part::value_variants().iter().copied().filter(|part| args.wants(*part)).collect();
    let facts = progress::during("reading Agents", None, read(&cluster, global, &parts)).await?;
    let wanted = Wanted {
        parts,
        release: global.release.clone(),
        release_namespace: global.system_namespace.clone(),
        unrecorded: args.unrecorded,
    };
    let plan = plan::plan(&facts, &wanted);
    show(&plan)?;
    match next(&plan, args) {
        Next::End => Ok(true),
        Next::Tell => {
            writeln!(std::io::stdout(), "Nothing was written. --yes writes it, --ask asks first.")?;
            Ok(false)
        }
        Next::Ask if !confirmed(plan.changes.len())? => {
            writeln!(std::io::stdout(), "Nothing was written.")?;
            Ok(false)
        }
        Next::Ask | Next::Write => write(&cluster, &plan).await,
    }
}

fn next(plan: &Plan, args: &MigrateArgs) -> Next {
    match (plan.changes.is_empty(), args.yes, args.ask) {
        (true, ..) => Next::End,
        (false, true, _) => Next::Write,
        (false, false, true) => Next::Ask,
        (false, false, false) => Next::Tell,
    }
}

async fn read(cluster: &Cluster, global: &Global, parts: &BTreeSet<Part>) -> Result<Facts> {
    let namespace = global.namespace.as_deref();
    // Who stored defaults is judged by the definition.
    let crd: Api<DynamicObject> = Api::all_with(cluster.client(), &crd_resource());
    let crd = crd.get_opt(CRD).await.context("cannot read the definition of Agents")?;
    let crd = crd.map(|crd| serde_json::to_value(crd).expect("what was JSON is JSON"));
    let mut facts = Facts { crd, go_managers: go_managers(cluster).await?, ..Facts::default() };
    if parts.iter().any(|part| *part != Part::Crd) && facts.crd.is_some() {
        facts.agents = cluster.list_values(&resource("Agent", "agents"), namespace).await?;
    }
    if parts.contains(&Part::Finalizers) {
        facts.models = cluster.list_values(&resource("Model", "models"), namespace).await?;
    }
    Ok(facts)
}

/// The Go system's managers that have pods, wherever they are.
async fn go_managers(cluster: &Cluster) -> Result<Vec<String>> {
    let selector = format!("{}={GO_COMPONENT}", keys::COMPONENT_LABEL);
    let deployments: Vec<Deployment> = cluster.list(Api::all(cluster.client()), &selector).await?;
    let is_go = |deployment: &Deployment| {
        let names_krypton = deployment.labels().get(keys::NAME_LABEL).is_some_and(|name| name == "krypton");
        let spec = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let mut containers = spec.into_iter().flat_map(|spec| &spec.containers);
        let has_flag = containers.any(|container| {
            let args = container.args.iter().flatten();
            args.into_iter().any(|arg| arg.starts_with("--proxy-image"))
        });
        names_krypton || has_flag
    };
    let runs = |deployment: &Deployment| {
        deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or_default() > 0
    };
    let running = deployments.iter().filter(|deployment| is_go(deployment) && runs(deployment));
    Ok(running
        .map(|found| format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any()))
        .collect())
}

fn show(plan: &Plan) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for change in &plan.changes {
        writeln!(out, "{}", change.about())?;
        for line in &change.lines {
            writeln!(out, "  {line}")?;
        }
    }
    for left in &plan.left {
        writeln!(out, "{left}")?;
    }
    match plan.changes.len() {
        0 if plan.left.is_empty() => writeln!(out, "Nothing to do.")?,
        0 => writeln!(out, "Nothing to do now.")?,
        1 => writeln!(out, "1 object to write.")?,
        count => writeln!(out, "{count} objects to write.")?,
    }
    Ok(())
}

fn confirmed(count: usize) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("--ask needs a terminal to ask on; --yes writes without asking");
    }
    let mut out = std::io::stdout().lock();
    write!(out, "Write {count}? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Writes all changes; `true` where all of them were.
async fn write(cluster: &Cluster, plan: &Plan) -> Result<bool> {
    let writes = stream::iter(&plan.changes)
        .map(async |change| (change, write_one(cluster, change).await))
        .buffer_unordered(WRITES)
        .collect::<Vec<_>>();
    let written = progress::during("writing", None, writes).await;
    let mut out = std::io::stdout().lock();
    let mut done = 0;
    for (change, written) in &written {
        match written {
            Written::Done => done += 1,
            Written::Changed => {
                writeln!(out, "{} changed meanwhile and was left as it is; run this again.", change.about())?;
            }
            Written::Failed(error) => writeln!(out, "{} was not written: {error}", change.about())?,
        }
    }
    writeln!(out, "{done} of {} written.", written.len())?;
    Ok(done == written.len())
}

async fn write_one(cluster: &Cluster, change: &Change) -> Written {
    let client = cluster.client();
    let api: Api<DynamicObject> = match change.kind {
        Kind::Crd => Api::all_with(client, &crd_resource()),
        Kind::Agent => Api::namespaced_with(client, &change.namespace, &resource("Agent", "agents")),
        Kind::Model => Api::namespaced_with(client, &change.namespace, &resource("Model", "models")),
    };
    let params =
        PatchParams { field_manager: Some(keys::CLI_FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&change.name, &params, &Patch::Merge::<&Value>(&change.patch)).await {
        Ok(_) => Written::Done,
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Written::Changed,
        Err(error) => Written::Failed(error),
    }
}

fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(keys::GROUP, keys::VERSION, kind), plural)
}

fn crd_resource() -> ApiResource {
    let kind = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    ApiResource::from_gvk_with_plural(&kind, "customresourcedefinitions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_alone_is_no_failure() {
        let left = Plan { changes: Vec::new(), left: vec!["It waits for the upgrade.".to_owned()] };
        let change = Change {
            kind: Kind::Crd,
            namespace: String::new(),
            name: CRD.to_owned(),
            lines: Vec::new(),
            patch: Value::Null,
        };
        let both = Plan { changes: vec![change], left: left.left.clone() };
        let args = |yes, ask| MigrateArgs { yes, ask, only: Vec::new(), unrecorded: false };
        for (args, then) in [
            (args(false, false), Next::Tell),
            (args(true, false), Next::Write),
            (args(false, true), Next::Ask),
        ] {
            assert_eq!(next(&left, &args), Next::End, "{args:?}");
            assert_eq!(next(&both, &args), then, "{args:?}");
        }
    }
}
