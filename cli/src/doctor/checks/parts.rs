//! The installation's own parts: Deployments, gateways and their tables, the leader, the definition of Agents.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use krypton_crd::crd::agent_crd;
use krypton_crd::keys;
use serde_json::Value;

use super::flags;
use crate::cluster::Component;
use crate::doctor::gather::Gathered;
use crate::findings::{Finding, Level};
use crate::routes::view::{Asked, View};

/// A claim that is so much older than it counts is dead also where this machine's clock is a little off.
const CLOCKS: Duration = Duration::from_secs(20);

/// How long a claim counts that does not say so.
const CLAIM: Duration = Duration::from_secs(10);

/// Differences between tables that are told one by one.
const TOLD: usize = 20;

/// Are the Deployments there and available, and all of one version?
pub(crate) fn deployments(gathered: &Gathered) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut versions = BTreeSet::new();
    for component in [Component::Gateway, Component::Controller] {
        let Some(deployment) = gathered.deployment(component) else {
            let about = format!("The {} of the release {}", component.as_str(), gathered.release);
            let message = format!("has no Deployment in {}", gathered.namespace);
            findings.push(
                Finding::new(Level::Problem, "NotInstalled", about, message)
                    .todo("install the chart, or name the installation by --release and --system-namespace"),
            );
            continue;
        };
        findings.push(availability(deployment));
        let image = deployment.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
        versions.extend(version(image.unwrap_or_default()).map(ToOwned::to_owned));
    }
    if versions.len() > 1 {
        let versions: Vec<String> = versions.into_iter().collect();
        findings.push(
            Finding::new(
                Level::Warning,
                "VersionsDiffer",
                "Gateways and controllers",
                format!("are of different versions: {}", versions.join(", ")),
            )
            .todo("one version apart is meant for the time of an upgrade; finish it by helm upgrade"),
        );
    }
    findings
}

fn availability(deployment: &Value) -> Finding {
    let about = format!("Deployment {}", text(deployment, "/metadata/name"));
    let number = |at: &str| deployment.pointer(at).and_then(Value::as_i64);
    let wanted = number("/spec/replicas").unwrap_or(1);
    let (available, updated) =
        (number("/status/availableReplicas").unwrap_or(0), number("/status/updatedReplicas").unwrap_or(0));
    let image = text(deployment, "/spec/template/spec/containers/0/image");
    let message =
        format!("{available} of {wanted} pods are available, {updated} of the newest version ({image})");
    let is_newest = number("/status/observedGeneration") == number("/metadata/generation");
    let level = match available {
        0 if wanted > 0 => Level::Problem,
        _ if available < wanted || updated < wanted || !is_newest => Level::Warning,
        _ => Level::Good,
    };
    let name = if level == Level::Good { "Available" } else { "NotAvailable" };
    let finding = Finding::new(level, name, about, message);
    if level == Level::Good { finding } else { finding.todo("kubectl describe its pods: the Events say why") }
}

/// Is every gateway ready by its own word?
pub(crate) fn gateways(gathered: &Gathered) -> Vec<Finding> {
    let mut ready = 0;
    let mut findings = Vec::new();
    let (leaving, staying): (Vec<_>, Vec<_>) =
        gathered.gateways.iter().partition(|gateway| gateway.is_terminating);
    for gateway in &staying {
        let about = format!("Pod {}", gateway.name);
        match &gateway.ready {
            Ok((true, _)) => ready += 1,
            Ok((false, text)) => {
                let missing: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("[-] ")).collect();
                let message = format!("is not ready: {}", missing.join("; "));
                findings.push(Finding::new(Level::Warning, "GatewayNotReady", about, message));
            }
            Err(why) => findings.push(Finding::new(
                Level::Warning,
                "GatewayNotAsked",
                about,
                format!("cannot be asked: {why}"),
            )),
        }
    }
    if ready > 0 {
        let message = format!("{ready} of {} are ready by their own word", staying.len());
        findings.insert(0, Finding::new(Level::Good, "GatewaysReady", "Gateways", message));
    }
    findings.extend(leaving.iter().map(|gateway| {
        let message = "is going away: it ends its calls and takes no new ones";
        Finding::new(Level::Note, "GatewayTerminating", format!("Pod {}", gateway.name), message)
    }));
    findings
}

/// Do all gateways hold the same, and what the Agents' statuses say?
pub(crate) fn tables(gathered: &Gathered) -> Vec<Finding> {
    // What was said of a gateway as a whole is not said again of each Agent.
    let compared: Vec<Asked> =
        gathered.tables.iter().filter(|asked| !is_told(asked, gathered)).cloned().collect();
    if compared.is_empty() {
        return Vec::new();
    }
    // Without the Agents, every route would seem to have none.
    let Some(agents) = &gathered.agents else { return Vec::new() };
    let view = View::of(&compared, agents, gathered.agents_of.as_deref());
    if view.differences.is_empty() {
        let whose = if compared.len() < gathered.tables.len() { "all that have routes" } else { "all" };
        let message = format!("{whose} hold the same, {} Agents", agents.len());
        return vec![Finding::new(Level::Good, "TablesAgree", "Gateways", message)];
    }
    let more = view.differences.len().saturating_sub(TOLD);
    let told = view.differences.iter().take(TOLD).cloned();
    let mut findings: Vec<Finding> =
        told.map(|difference| Finding::new(Level::Warning, "TablesDiffer", "Gateways", difference)).collect();
    if more > 0 {
        let message = format!("and {more} more differences; kubectl krypton routes shows all");
        findings.push(Finding::new(Level::Warning, "TablesDiffer", "Gateways", message));
    }
    findings
}

/// Whether [`gateways`] tells why `asked` has no table.
fn is_told(asked: &Asked, gathered: &Gathered) -> bool {
    let gateway = gathered.gateways.iter().find(|gateway| gateway.name == asked.gateway);
    match (&asked.table, gateway.map(|gateway| &gateway.ready)) {
        (Err(_), Some(ready)) => ready.is_err(),
        (Ok(table), Some(Ok((false, _)))) => table.is_awaited(),
        _ => false,
    }
}

/// Does a controller lead? Nothing where the Lease could not be read.
pub(crate) fn lease(gathered: &Gathered, now: Duration) -> Option<Finding> {
    Some(leader(&gathered.lease_name, gathered.lease.as_ref()?.as_ref(), now))
}

fn leader(name: &str, lease: Option<&Lease>, now: Duration) -> Finding {
    let about = &format!("Lease {name}");
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let holder = spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty());
    let Some((spec, holder)) = spec.zip(holder) else {
        return Finding::new(
            Level::Problem,
            "NoLeader",
            about,
            "no controller leads: no Agent's pods are looked after",
        )
        .todo("see that a controller runs and may write the Lease: its log says what keeps it");
    };
    let renewed = spec.renew_time.as_ref().map_or(0, |time| time.0.as_second());
    let counts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let counts = counts.map_or(CLAIM, Duration::from_secs);
    let age = now.saturating_sub(Duration::from_secs(u64::try_from(renewed).unwrap_or(0)));
    if age > counts + CLOCKS {
        let message =
            format!("{holder} claimed to lead {} s ago and has not been heard of since", age.as_secs());
        return Finding::new(Level::Problem, "NoLeader", about, message)
            .todo("see that a controller runs and reaches the API server: its log says what keeps it");
    }
    Finding::new(Level::Good, "Leader", about, format!("{holder} leads"))
}

/// Is the definition of Agents there, and is it ours? Nothing where it could not be read.
pub(crate) fn definition(gathered: &Gathered) -> Option<Finding> {
    Some(judge_definition(gathered.crd.as_ref()?.as_ref()))
}

fn judge_definition(crd: Option<&Value>) -> Finding {
    let about = "CustomResourceDefinition agents.krypton.ai";
    let Some(crd) = crd else {
        return Finding::new(
            Level::Problem,
            "NoDefinition",
            about,
            "is not there, so there can be no Agents",
        )
        .todo("install the chart with crds.install: true");
    };
    let live = fields(crd);
    let ours = fields(&serde_json::to_value(agent_crd()).expect("a definition is JSON"));
    let missing: Vec<&str> = ours.difference(&live).map(String::as_str).collect();
    if !missing.is_empty() {
        let message = format!("is older than this program: it lacks {}", missing.join(", "));
        return Finding::new(Level::Warning, "OldDefinition", about, message).todo(
            "helm upgrade, with crds.install: true; fields that a definition lacks are dropped silently",
        );
    }
    Finding::new(Level::Good, "Definition", about, format!("serves {}", keys::API_VERSION))
}

/// Fields of the spec that a definition has.
fn fields(crd: &Value) -> BTreeSet<String> {
    let versions = crd.pointer("/spec/versions").and_then(Value::as_array);
    let version = versions.into_iter().flatten().find(|version| version["name"] == keys::VERSION);
    let fields = version.and_then(|version| {
        version.pointer("/schema/openAPIV3Schema/properties/spec/properties")?.as_object()
    });
    fields.into_iter().flat_map(|fields| fields.keys().cloned()).collect()
}

/// Is what the controllers tell the gateways encrypted?
pub(crate) fn discovery(gathered: &Gathered) -> Option<Finding> {
    let controller = gathered.deployment(Component::Controller)?;
    let gateway = gathered.deployment(Component::Gateway)?;
    let plain = flags::value(controller, "discovery-plaintext").is_some_and(|value| value != "false")
        || flags::value(gateway, "discovery").is_some_and(|url| url.starts_with("http://"));
    let about = "Discovery";
    Some(if plain {
        let message = "is in plain text: every pod that reaches the controllers can read all routes";
        Finding::new(Level::Warning, "DiscoveryPlaintext", about, message).todo(
            "set discovery.plaintext: false in the chart's values; certificates.source gives the certificate",
        )
    } else {
        Finding::new(Level::Good, "DiscoveryEncrypted", about, "is encrypted")
    })
}

/// The tag of an image. A digest alone tells no version: gateways and controllers have different ones.
fn version(image: &str) -> Option<&str> {
    let behind_path = image.rsplit('/').next().unwrap_or_default();
    match behind_path.split_once('@') {
        Some((name, _)) => name.split_once(':').map(|(_, tag)| tag),
        None => Some(behind_path.split_once(':').map_or("latest", |(_, tag)| tag)),
    }
}

fn text<'a>(object: &'a Value, at: &str) -> &'a str {
    object.pointer(at).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
