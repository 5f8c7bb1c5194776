//! A real API server takes all that the chart makes, unknown fields being errors.

use std::fmt::Write;

use krypton_e2e::cluster::Cluster;
use krypton_e2e::control_plane::ControlPlane;
use krypton_e2e::helm::Helm;

use crate::cases::{CASES, NAMESPACES};
use crate::documents::render;
use crate::kinds;

/// Makes the namespaces that the cases speak of.
pub(crate) async fn make_namespaces(cluster: &Cluster) {
    let mut namespaces = String::new();
    for name in NAMESPACES {
        write!(namespaces, "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n").unwrap();
    }
    cluster.kubectl(&["apply", "--filename=-"], &namespaces).await.unwrap();
}

#[tokio::test]
async fn each_case_is_taken_by_the_api_server() {
    let control_plane = ControlPlane::start().await.unwrap();
    let cluster = control_plane.cluster().await.unwrap();
    make_namespaces(&cluster).await;
    let unknown = kinds::install(&cluster).await.unwrap();
    let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-"];
    for case in CASES {
        let mut documents = render(case.release, case.values).await;
        documents.retain(|_, document| !unknown.contains(&document.group()));
        let texts: Vec<_> = documents.values().map(|document| document.text.as_str()).collect();
        let taken = cluster.kubectl(&apply, &texts.join("\n---\n")).await;
        let taken = taken.unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
        assert_eq!(taken.lines().count(), documents.len(), "{}: {taken}", case.name);
    }
}

#[tokio::test]
async fn helm_finds_nothing_to_say_about_any_case() {
    let helm = Helm::offline().unwrap();
    for case in CASES {
        helm.lint(case.values).await.unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
    }
}
