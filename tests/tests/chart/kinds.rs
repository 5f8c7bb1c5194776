//! The definitions of kinds that the chart can make and that are others' business, as their projects publish them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use krypton_e2e::cluster::Cluster;
use serde_json::Value;
use tokio::process::Command;

/// A Go module that carries definitions, and their files.
struct Publisher {
    /// API group of what they define.
    group: &'static str,
    module: &'static str,
    files: &'static [&'static str],
}

const PUBLISHERS: [Publisher; 4] = [
    Publisher {
        group: "cert-manager.io",
        module: "github.com/cert-manager/cert-manager@v1.18.6",
        files: &["deploy/crds/crd-certificates.yaml", "deploy/crds/crd-issuers.yaml"],
    },
    Publisher {
        group: "monitoring.coreos.com",
        module: "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        files: &[
            "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
            "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        ],
    },
    Publisher {
        group: "gateway.networking.k8s.io",
        module: "sigs.k8s.io/gateway-api@v1.3.0",
        files: &["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
    },
    Publisher {
        group: "gateway.envoyproxy.io",
        module: "github.com/envoyproxy/gateway@v1.8.0",
        files: &[
            "charts/gateway-crds-helm/templates/generated/gateway.envoyproxy.io_backendtrafficpolicies.yaml",
        ],
    },
];

/// Where the Go proxy's copy of a module is, checked against the checksum database.
async fn folder(module: &str) -> Result<PathBuf> {
    let nowhere = tempfile::tempdir()?;
    let mut go = Command::new("go");
    go.args(["mod", "download", "-json", module]).env("GOFLAGS", "-mod=mod").current_dir(nowhere.path());
    let output = go.stdin(Stdio::null()).output().await.context("cannot run go")?;
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let folder = answer["Dir"].as_str();
    Ok(PathBuf::from(folder.with_context(|| format!("{module}: {answer}"))?))
}

/// One that is a template of somebody's chart has actions in comments and labels only.
fn definition(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let actions = |line: &&str| !line.starts_with("{{");
    let text = text.lines().filter(actions).collect::<Vec<_>>().join("\n");
    let mut definition: Value = serde_saphyr::from_str(&text)?;
    ensure!(definition["kind"] == "CustomResourceDefinition", "{} defines nothing", file.display());
    let metadata = definition["metadata"].as_object_mut().context("no metadata")?;
    metadata.retain(|key, _| key == "name" || key == "annotations");
    Ok(definition)
}

/// Makes the API server know them, so that it checks objects of these kinds as it would in a cluster that has them.
/// Gives back the groups that it does not know, since their definitions cannot be had here; on CI that is an error.
pub(crate) async fn install(cluster: &Cluster) -> Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    let mut definitions = Vec::new();
    for publisher in PUBLISHERS {
        let folder = match folder(publisher.module).await {
            Ok(folder) => folder,
            Err(error) if std::env::var_os("CI").is_none() => {
                eprintln!("Objects of {} are NOT checked: {error:#}", publisher.group);
                missing.push(publisher.group);
                continue;
            }
            Err(error) => return Err(error),
        };
        for file in publisher.files {
            definitions.push(definition(&folder.join(file))?);
        }
    }
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": definitions }).to_string();
    cluster.kubectl(&["apply", "--server-side", "--filename=-"], &list).await?;
    cluster.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "--filename=-"], &list).await?;
    Ok(missing)
}
