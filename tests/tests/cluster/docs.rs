//! Every manifest of the documentation is one that a real API server takes, every file of values one that the chart
//! takes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use krypton_e2e::cluster::{Cluster, Namespace, shared};
use krypton_e2e::helm::{Helm, Release};
use krypton_e2e::tools::CONTOUR;
use kube::api::{DynamicObject, GroupVersionKind, Patch, PatchParams, ValidationDirective};
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, ResourceExt};
use serde_json::{Map, Value};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Kinds whose definitions no part of the tests brings; of these it is only checked that they are YAML.
const UNDEFINED: [&str; 2] = ["gateway.envoyproxy.io", "traefik.io"];

/// Gateway API's definitions come with Contour, which comes with this tier.
const HAS_GATEWAY_API: bool = cfg!(feature = "node");
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// A fenced block of YAML.
#[derive(Debug)]
struct Block {
    /// Page and line, for a person.
    place: String,
    text: String,
}

// === impl Block ===

impl Block {
    /// Whether it is a file of values for the chart.
    fn is_values(&self) -> bool {
        self.text.starts_with("# values.yaml\n")
    }

    /// Its documents; a page may also show a part of one.
    fn documents(&self) -> Vec<Value> {
        serde_saphyr::from_multiple(&self.text).unwrap_or_else(|error| panic!("{}: {error}", self.place))
    }
}

/// The pages that people read.
fn pages() -> Vec<PathBuf> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(Path::new(ROOT).join(folder)).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "md"))
    };
    let mut pages: Vec<_> = in_folder("docs").chain(in_folder("docs/reference")).collect();
    pages.push(Path::new(ROOT).join("README.md"));
    pages.sort();
    pages
}

/// All blocks of YAML of all pages.
fn blocks() -> Vec<Block> {
    pages().iter().flat_map(|page| blocks_of(page)).collect()
}

fn blocks_of(page: &Path) -> Vec<Block> {
    let text = fs::read_to_string(page).unwrap();
    let name = page.file_name().unwrap().display();
    let mut lines = text.lines().enumerate();
    let mut blocks = Vec::new();
    while let Some((number, line)) = lines.next() {
        // In a list it is indented, and so is all of it.
        let Some(indent) = line.strip_suffix("```yaml") else { continue };
        let inside = lines.by_ref().map(|(_, line)| line.strip_prefix(indent).unwrap_or(line));
        let inside: Vec<&str> = inside.take_while(|line| *line != "```").collect();
        blocks.push(Block { place: format!("{name}:{}", number + 1), text: inside.join("\n") + "\n" });
    }
    blocks
}

/// What only the reader can fill in ends with dots; it is left out.
fn without_placeholders(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.as_str().is_some_and(|text| text.ends_with("...")));
            fields.values_mut().for_each(without_placeholders);
        }
        Value::Array(items) => items.iter_mut().for_each(without_placeholders),
        _ => {}
    }
}

/// Serves HTTPRoutes, as a cluster with any implementation of Gateway API does.
async fn define_http_routes(cluster: &Cluster) -> Result<()> {
    let file = CONTOUR.folder()?.join("gateway-api/gateway.networking.k8s.io_httproutes.yaml");
    let file = file.to_str().context("a path that is not UTF-8")?;
    cluster.kubectl(&["apply", "--server-side", "--filename", file], "").await?;
    cluster
        .kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "--filename", file], "")
        .await?;
    Ok(())
}

/// Whether the API server would take it as it stands, unknown fields and all; in the test's own namespace, since those
/// that pages name do not exist.
async fn try_apply(namespace: &Namespace, mut object: Value) -> Result<()> {
    without_placeholders(&mut object);
    let mut object: DynamicObject = serde_json::from_value(object)?;
    let gvk = GroupVersionKind::try_from(object.types.as_ref().context("no kind")?)?;
    let client = namespace.cluster().client();
    let (resource, capabilities) =
        pinned_kind(&client, &gvk).await.with_context(|| format!("{gvk:?} is not known"))?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client, &resource),
        Scope::Namespaced => Api::namespaced_with(client, namespace.name(), &resource),
    };
    if capabilities.scope == Scope::Namespaced {
        object.metadata.namespace = Some(namespace.name().to_owned());
    }
    let params = PatchParams {
        dry_run: true,
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("docs").force()
    };
    match api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) => bail!("{}", status.message),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn every_manifest_of_the_documentation_applies() {
    let cluster = shared().await.unwrap();
    cluster.install_agent_crd().await.unwrap();
    if HAS_GATEWAY_API {
        define_http_routes(&cluster).await.unwrap();
    }
    let mut applied = 0;
    let mut left_out = BTreeSet::new();
    let mut refused = Vec::new();
    let test = cluster.with_namespace(async |namespace| {
        for block in blocks() {
            for document in block.documents() {
                let (Some(version), false) = (document["apiVersion"].as_str(), block.is_values()) else {
                    continue;
                };
                let group = version.split_once('/').map_or("", |(group, _)| group);
                if UNDEFINED.contains(&group) || (group == GATEWAY_API && !HAS_GATEWAY_API) {
                    left_out.insert(group.to_owned());
                    continue;
                }
                applied += 1;
                let what = format!("{} {}", block.place, document["kind"]);
                if let Err(error) = try_apply(namespace, document).await {
                    refused.push(format!("{what}: {error:#}"));
                }
            }
        }
    });
    test.await.unwrap();
    assert_eq!(refused, Vec::<String>::new());
    // What looks for them would otherwise pass when it finds none.
    assert!(applied >= 15, "{applied} were found");
    assert!(UNDEFINED.iter().all(|group| left_out.contains(*group)), "UNDEFINED names more than pages do");
}

#[tokio::test]
async fn a_manifest_with_a_wrong_field_is_found() {
    let cluster = shared().await.unwrap();
    let test = cluster.with_namespace(async |namespace| {
        let text = "kind: ConfigMap\napiVersion: v1\nmetadata: { name: a }\nspec: {}\n";
        let error = try_apply(namespace, serde_saphyr::from_str(text).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("spec"), "{error:#}");
    });
    test.await.unwrap();
}

/// What the chart makes of those values in the release that the pages speak of.
async fn render(values: &str) -> Result<Vec<Value>> {
    let release = Release { name: "krypton", namespace: "krypton-system" };
    let text = Helm::offline()?.template(release, values).await?;
    Ok(serde_saphyr::from_multiple(&text)?)
}

#[tokio::test]
async fn every_file_of_values_in_the_documentation_renders() {
    let files: Vec<_> = blocks().into_iter().filter(Block::is_values).collect();
    assert!(files.len() > 8, "{} were found", files.len());
    for Block { place, text } in files {
        render(&text).await.unwrap_or_else(|error| panic!("{place}: {error:#}"));
    }
}

/// The value of `ingress.class` for an Ingress with such annotations.
fn class_of(annotations: &Map<String, Value>) -> &'static str {
    let classes = [
        ("nginx.ingress.kubernetes.io/", "ingress-nginx"),
        ("nginx.org/", "nginx"),
        ("haproxy.org/", "haproxy"),
        ("projectcontour.io/", "contour"),
    ];
    let is_used = |prefix: &str| annotations.keys().any(|key| key.starts_with(prefix));
    classes.into_iter().find(|(prefix, _)| is_used(prefix)).map_or("traefik", |(_, class)| class)
}

/// Whoever copies from the page and whoever uses the chart must get the same.
#[tokio::test]
async fn every_ingress_of_the_documentation_is_that_of_the_chart() {
    let documents = blocks().into_iter().flat_map(|block| block.documents());
    let mut classes = BTreeSet::new();
    for page in documents.filter(|document| document["kind"] == "Ingress") {
        let annotations = page["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        let class = class_of(&annotations);
        // The page has the guide's own Ingress too.
        let read_timeout = if annotations.values().any(|value| value == "300") { "300s" } else { "330s" };
        let values = format!(
            "ingress: {{ enabled: true, class: {class}, host: agents.example.com, readTimeout: {read_timeout} }}"
        );
        let rendered = render(&values).await.unwrap();
        let chart = rendered.iter().find(|document| document["kind"] == "Ingress").unwrap();
        for (key, value) in &annotations {
            assert_eq!(&chart["metadata"]["annotations"][key], value, "{key} of {class}");
        }
        assert_eq!(chart["metadata"]["name"], page["metadata"]["name"], "{class}");
        assert_eq!(chart["spec"]["ingressClassName"], page["spec"]["ingressClassName"], "{class}");
        for path in page["spec"]["rules"][0]["http"]["paths"].as_array().unwrap() {
            let paths = chart["spec"]["rules"][0]["http"]["paths"].as_array().unwrap();
            let same = paths.iter().find(|other| other["path"] == path["path"]).unwrap();
            assert_eq!(same["pathType"], path["pathType"], "{class}");
            assert_eq!(same["backend"]["service"]["name"], path["backend"]["service"]["name"], "{class}");
        }
        classes.insert(class);
    }
    assert_eq!(classes, BTreeSet::from(["contour", "haproxy", "ingress-nginx", "nginx", "traefik"]));
}
