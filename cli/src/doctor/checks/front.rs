//! The Ingresses and HTTPRoutes that lead to the gateways: is there one, is it taken, are its settings right?
//!
//! What the settings really do is seen by `--url` alone; here they are only read.

mod paths;
mod settings;

use std::collections::BTreeSet;

use krypton_crd::keys;
use serde_json::Value;

use super::agents;
use crate::args::Class;
use crate::doctor::class;
use crate::doctor::gather::Gathered;
use crate::findings::{self, Finding, Level};
use paths::{Leads, PREFIX};
use settings::{Silence, Wrong};

/// What stands in front, as far as the cluster tells.
pub(crate) fn classes(gathered: &Gathered) -> BTreeSet<Class> {
    let ingresses = ingresses(gathered).filter_map(|ingress| class_of_ingress(ingress, gathered));
    let routes = http_routes(gathered).flat_map(|route| {
        parents(route).filter_map(|parent| class_of_gateway(gateway_of(route, parent, gathered)?, gathered))
    });
    ingresses.chain(routes).collect()
}

/// Whether what is in front is an Ingress of the release's chart, of a class whose read timeout the chart's values set.
pub(crate) fn has_read_timeout_of_the_chart(gathered: &Gathered) -> bool {
    ingresses(gathered).any(|ingress| {
        let class = class_of_ingress(ingress, gathered);
        let has_one = matches!(class, Some(Class::IngressNginx | Class::Nginx | Class::Haproxy));
        has_one && is_the_charts(ingress, gathered)
    })
}

/// All findings about what is in front.
pub(crate) fn all(gathered: &Gathered) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for ingress in ingresses(gathered) {
        findings.extend(judge_ingress(ingress, gathered));
    }
    for route in http_routes(gathered) {
        findings.extend(judge_route(route, gathered));
    }
    findings.extend(classes(gathered).into_iter().filter_map(|class| {
        let message = class::of_its_owner(class)?;
        Some(Finding::new(Level::Note, "NotOfTheRoute", class::name(class), message))
    }));
    if findings.is_empty() && gathered.ingresses.is_some() && gathered.http_routes.is_some() {
        let service = format!("the Service {}", gathered.gateway_service());
        let message = format!(
            "no Ingress and no HTTPRoute leads to {service}: it is called from inside, or by a proxy of \
            your own"
        );
        findings.push(Finding::new(Level::Note, "NoIngress", "Ingress", message));
    }
    findings
}

fn judge_ingress(ingress: &Value, gathered: &Gathered) -> Vec<Finding> {
    let about = format!("Ingress {}", name(ingress));
    let mut findings = Vec::new();
    findings.extend(judge_paths(ingress, &about, gathered));
    let Some(class) = class_of_ingress(ingress, gathered) else {
        let class = class_name(ingress).unwrap_or("none");
        let message = format!("is of the class {class}, which is not known here; --url shows what it does");
        findings.push(Finding::new(Level::Note, "UnknownClass", about, message));
        return findings;
    };
    if let Some(name) = lacking_class(ingress, gathered) {
        let message = format!("its class {name} does not exist");
        findings.push(Finding::new(Level::Problem, "NoIngressClass", &about, message).todo(
            "kubectl get ingressclasses shows those there are; set ingress.className in the chart's values",
        ));
    }
    for wrong in settings::wrong(ingress, class, Silence::of(gathered)) {
        let cures = cures(&wrong, class, is_the_charts(ingress, gathered));
        let finding = Finding::new(Level::Warning, "WrongSetting", &about, wrong.message);
        findings.push(cures.into_iter().fold(finding, Finding::todo));
    }
    if !findings::any_to_do(&findings) {
        let message = format!(
            "leads to the gateways ({}); its own settings are right, --url measures the rest",
            class::name(class)
        );
        findings.push(Finding::new(Level::Good, "Ingress", about, message));
    }
    findings
}

/// What sets it right: where the chart renders the Ingress, its values do, and an annotation by hand would not stay.
fn cures(wrong: &Wrong, class: Class, is_the_charts: bool) -> Vec<String> {
    let (class, wanted) = (class::name(class), &wrong.wanted);
    if !is_the_charts {
        return vec![format!(
            "annotate it with {wanted}, or set ingress.class: {class} in the chart's values"
        )];
    }
    let value = match wrong.read_timeout {
        Some(timeout) => {
            let timeout = agents::written(timeout);
            format!("set ingress.readTimeout: {timeout} in the chart's values, with ingress.class: {class}")
        }
        None => format!("set ingress.class: {class} in the chart's values"),
    };
    vec![value, format!("or, for this setting alone, add {wanted} to ingress.annotations there")]
}

/// Whether the release's chart renders `ingress`.
fn is_the_charts(ingress: &Value, gathered: &Gathered) -> bool {
    let label = |key: &str| ingress.pointer("/metadata/labels")?[key].as_str();
    let is_named = ingress.pointer("/metadata/name").is_some_and(|name| *name == gathered.gateway_service());
    let is_rendered = label(keys::CHART_LABEL).is_some() || label(keys::MANAGED_BY_LABEL) == Some(keys::HELM);
    is_named && is_rendered && label(keys::INSTANCE_LABEL) == Some(&gathered.release)
}

/// Do its paths lead calls to the gateways?
fn judge_paths(ingress: &Value, about: &str, gathered: &Gathered) -> Option<Finding> {
    let service = gathered.gateway_service();
    if is_default_backend(ingress, &service) {
        return None;
    }
    match paths::leads(paths_to(ingress, &service)) {
        Leads::All | Leads::Untold => None,
        Leads::Some(paths) => {
            let message = format!("leads only some calls to the gateways: {}", paths.join(", "));
            Some(Finding::new(Level::Note, "NarrowPath", about, message))
        }
        Leads::Nothing => {
            let message = format!("does not route {PREFIX} and what is below it");
            let finding = Finding::new(Level::Problem, "WrongPath", about, message);
            Some(finding.todo(format!("path: {PREFIX} with pathType: Prefix")))
        }
    }
}

fn judge_route(route: &Value, gathered: &Gathered) -> Vec<Finding> {
    let about = format!("HTTPRoute {}", name(route));
    let mut findings = Vec::new();
    for parent in parents(route) {
        let parent_name = parent["name"].as_str().unwrap_or_default();
        let gateway = gateway_of(route, parent, gathered);
        if gateway.is_none() && gathered.gateway_objects.is_some() {
            let message = format!("its parent, the Gateway {parent_name}, does not exist");
            findings.push(Finding::new(Level::Problem, "NoGateway", &about, message).todo(
                "kubectl get gateways -A shows those there are; set httpRoute.parentRefs in the chart's values",
            ));
            continue;
        }
        match accepted(route, parent) {
            Some((true, _)) => {}
            Some((false, why)) => findings.push(
                Finding::new(
                    Level::Problem,
                    "NotAccepted",
                    &about,
                    format!("{parent_name} refuses it: {why}"),
                )
                .todo("see allowedRoutes and the hostnames of the Gateway's listeners"),
            ),
            None => {
                let class = gateway.and_then(|gateway| gateway.pointer("/spec/gatewayClassName")?.as_str());
                let class = class.unwrap_or("its class");
                let message =
                    format!("{parent_name} says nothing of it: does the controller of {class} run?");
                findings.push(Finding::new(Level::Warning, "NotAccepted", &about, message));
            }
        }
    }
    for rule in list(route, "/spec/rules").iter().filter(|rule| leads_to(rule, gathered)) {
        let request = rule.pointer("/timeouts/request").and_then(Value::as_str);
        if request != Some("0s") {
            let found = request
                .map_or("is not set, and the default of many is 15 s".to_owned(), |is| format!("is {is}"));
            findings.push(
                Finding::new(
                    Level::Warning,
                    "WrongSetting",
                    &about,
                    format!("timeouts.request {found}: calls are cut"),
                )
                .todo("timeouts.request: 0s in the rule"),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::new(
            Level::Good,
            "HTTPRoute",
            about,
            "is accepted; its own settings are right, --url measures the rest",
        ));
    }
    findings
}

/// The class that `ingress` needs and that does not exist: the annotation of old needs none.
fn lacking_class<'a>(ingress: &'a Value, gathered: &Gathered) -> Option<&'a str> {
    let name = ingress.pointer("/spec/ingressClassName")?.as_str()?;
    (gathered.ingress_classes.is_some() && ingress_class(name, gathered).is_none()).then_some(name)
}

/// Whether `parent` takes `route`, and what it says; `None` where it says nothing.
fn accepted(route: &Value, parent: &Value) -> Option<(bool, String)> {
    let own = namespace(route);
    let key = |parent: &Value| {
        let text = |field: &str| parent[field].as_str().map(ToOwned::to_owned);
        let namespace = text("namespace").unwrap_or_else(|| own.to_owned());
        (text("name"), namespace, text("sectionName"), parent["port"].as_u64())
    };
    let wanted = key(parent);
    let statuses = list(route, "/status/parents");
    let status = statuses.iter().find(|one| key(&one["parentRef"]) == wanted)?;
    let condition = list(status, "/conditions").iter().find(|condition| condition["type"] == "Accepted")?;
    let message = condition["message"].as_str().unwrap_or_default();
    let reason = condition["reason"].as_str().unwrap_or_default();
    Some((condition["status"] == "True", format!("{reason}, {message}")))
}

/// Ingresses with a path to the gateways.
fn ingresses(gathered: &Gathered) -> impl Iterator<Item = &Value> {
    let service = gathered.gateway_service();
    gathered.ingresses.iter().flatten().filter(move |ingress| {
        is_default_backend(ingress, &service) || paths_to(ingress, &service).next().is_some()
    })
}

/// Paths of `ingress` whose backend is `service`.
fn paths_to<'a>(ingress: &'a Value, service: &str) -> impl Iterator<Item = &'a Value> {
    let paths = list(ingress, "/spec/rules").iter().flat_map(|rule| list(rule, "/http/paths"));
    paths.filter(move |path| path.pointer("/backend/service/name").is_some_and(|name| name == service))
}

fn is_default_backend(ingress: &Value, service: &str) -> bool {
    ingress.pointer("/spec/defaultBackend/service/name").is_some_and(|name| name == service)
}

/// HTTPRoutes with a rule to the gateways.
fn http_routes(gathered: &Gathered) -> impl Iterator<Item = &Value> {
    gathered.http_routes.iter().flatten().filter(|route| {
        let own = namespace(route);
        list(route, "/spec/rules").iter().any(|rule| {
            leads_to(rule, gathered)
                && list(rule, "/backendRefs")
                    .iter()
                    .any(|backend| backend["namespace"].as_str().unwrap_or(own) == gathered.namespace)
        })
    })
}

fn leads_to(rule: &Value, gathered: &Gathered) -> bool {
    let service = gathered.gateway_service();
    list(rule, "/backendRefs").iter().any(|backend| backend["name"] == service)
}

/// The Gateways that a route names; a parent of another kind is none.
fn parents(route: &Value) -> impl Iterator<Item = &Value> {
    list(route, "/spec/parentRefs")
        .iter()
        .filter(|parent| parent["kind"].as_str().is_none_or(|kind| kind == "Gateway"))
}

fn gateway_of<'a>(route: &Value, parent: &Value, gathered: &'a Gathered) -> Option<&'a Value> {
    let namespace = parent["namespace"].as_str().unwrap_or(namespace(route));
    gathered.gateway_objects.iter().flatten().find(|gateway| {
        gateway.pointer("/metadata/name") == parent.get("name")
            && gateway.pointer("/metadata/namespace").is_some_and(|found| found == namespace)
    })
}

fn class_of_gateway(gateway: &Value, gathered: &Gathered) -> Option<Class> {
    let name = gateway.pointer("/spec/gatewayClassName")?;
    let found =
        gathered.gateway_classes.iter().flatten().find(|one| one.pointer("/metadata/name") == Some(name))?;
    class::of_controller(found.pointer("/spec/controllerName")?.as_str()?)
}

/// By its IngressClass, else by the class's own name.
fn class_of_ingress(ingress: &Value, gathered: &Gathered) -> Option<Class> {
    let name = class_name(ingress)?;
    let controller = ingress_class(name, gathered).and_then(|one| one.pointer("/spec/controller")?.as_str());
    match controller {
        Some(controller) => class::of_controller(controller),
        None => match name {
            // By far the most frequent meaning of the word.
            "nginx" => Some(Class::IngressNginx),
            "haproxy" => Some(Class::Haproxy),
            "traefik" => Some(Class::Traefik),
            "contour" => Some(Class::Contour),
            _ => None,
        },
    }
}

fn ingress_class<'a>(name: &str, gathered: &'a Gathered) -> Option<&'a Value> {
    gathered
        .ingress_classes
        .iter()
        .flatten()
        .find(|one| one.pointer("/metadata/name").is_some_and(|found| found == name))
}

/// The class that an Ingress names, in its field or by the annotation of old.
fn class_name(ingress: &Value) -> Option<&str> {
    let annotation = ingress.pointer("/metadata/annotations/kubernetes.io~1ingress.class");
    ingress.pointer("/spec/ingressClassName").or(annotation)?.as_str()
}

fn namespace(object: &Value) -> &str {
    object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, at: &str) -> &'a [Value] {
    object.pointer(at).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn name(object: &Value) -> String {
    let text =
        |field: &str| object.pointer("/metadata").and_then(|meta| meta[field].as_str()).unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

#[cfg(test)]
mod tests;
