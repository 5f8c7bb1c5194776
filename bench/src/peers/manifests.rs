//! Manifests of the agents, as `kubectl apply` would take them; in JSON, which is read much faster than YAML.
//!
//! A file an Agent, `NAMESPACE/NAME.json`, up to [`SINGLE`] of them; a file a namespace beyond that, since a controller
//! reads 20,000 files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;

use crate::routes::{AGENTS_PER_NAMESPACE, names, pod_uid};

/// So many agents have a file each.
const SINGLE: usize = 10_000;

/// Whether each of so many agents has a file of its own.
#[must_use]
pub fn are_single(agents: usize) -> bool {
    agents <= SINGLE
}

/// Writes so many agents into `folder`, all of them with these endpoints.
///
/// # Errors
/// A file cannot be written.
pub fn write_all(folder: &Path, agents: usize, origins: &[SocketAddr]) -> anyhow::Result<()> {
    if are_single(agents) {
        return (0..agents).try_for_each(|n| write(folder, n, &endpoints(n, origins)));
    }
    fs::create_dir_all(folder)?;
    for first in (0..agents).step_by(AGENTS_PER_NAMESPACE) {
        let members = first..agents.min(first + AGENTS_PER_NAMESPACE);
        let documents: Vec<_> = members.map(|n| manifest(n, &endpoints(n, origins))).collect();
        let path = folder.join(format!("{}.json", names(first).0));
        fs::write(&path, documents.concat()).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Writes the file of agent `n` with these endpoints (address and UID of a pod), as editors and `kubectl` do: beside
/// the file, then renamed over it.
///
/// # Errors
/// It cannot be written.
pub fn write(folder: &Path, n: usize, endpoints: &[(SocketAddr, String)]) -> anyhow::Result<()> {
    let (namespace, name) = names(n);
    let folder = folder.join(namespace);
    fs::create_dir_all(&folder)?;
    let temporary = folder.join(format!(".{name}.new"));
    fs::write(&temporary, manifest(n, endpoints))?;
    let path = folder.join(format!("{name}.json"));
    fs::rename(&temporary, &path).with_context(|| path.display().to_string())
}

/// `origins` as the pods of agent `n`.
#[must_use]
pub fn endpoints(n: usize, origins: &[SocketAddr]) -> Vec<(SocketAddr, String)> {
    origins.iter().enumerate().map(|(pod, origin)| (*origin, pod_uid(n, pod))).collect()
}

/// Agent `n` without limits of its own, and an EndpointSlice for each port of its endpoints, a document a line.
#[must_use]
pub fn manifest(n: usize, endpoints: &[(SocketAddr, String)]) -> String {
    let (namespace, name) = names(n);
    let mut slices: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (address, uid) in endpoints {
        slices.entry((address.is_ipv6(), address.port())).or_default().push(json!({
            "addresses": [address.ip()],
            "conditions": { "ready": true },
            "targetRef": { "kind": "Pod", "name": name, "uid": uid },
        }));
    }
    let agent = json!({
        "apiVersion": "krypton.ai/v1alpha1",
        "kind": "Agent",
        "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "image": "registry.example.com/agent:1",
            "concurrency": 0,
            "maxStandingStreams": 1_000_000,
        },
    });
    let slices = slices.into_iter().map(|((is_ipv6, port), endpoints)| {
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": namespace,
                "name": format!("{name}-{port}"),
                "labels": { "krypton.ai/agent": name, "kubernetes.io/service-name": name },
            },
            "addressType": if is_ipv6 { "IPv6" } else { "IPv4" },
            "ports": [{ "name": "http", "port": port }],
            "endpoints": endpoints,
        })
    });
    let mut text = String::new();
    for document in std::iter::once(agent).chain(slices) {
        writeln!(text, "{document}").expect("writing into a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_at_several_ports_are_in_several_slices() {
        let address = |text: &str| text.parse().unwrap();
        let origins = [address("127.0.0.1:1000"), address("127.0.0.2:1000"), address("127.0.0.1:2000")];
        let text = manifest(205, &endpoints(205, &origins));
        assert_eq!(text.matches(r#""kind":"EndpointSlice""#).count(), 2);
        assert_eq!(text.matches(r#""namespace":"team-2""#).count(), 3);
        assert_eq!(text.matches(r#""addresses":["#).count(), 3);
        assert_eq!(text.matches(&pod_uid(205, 2)).count(), 1);
    }

    #[test]
    fn many_agents_are_in_few_files() {
        let folder = tempfile::tempdir().unwrap();
        let origins = ["127.0.0.1:1000".parse().unwrap()];
        write_all(folder.path(), SINGLE + 1, &origins).unwrap();
        let files: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(files.len(), SINGLE / AGENTS_PER_NAMESPACE + 1);
        let last = fs::read_to_string(folder.path().join("team-100.json")).unwrap();
        assert_eq!(last.matches(r#""kind":"Agent""#).count(), 1);
        write_all(&folder.path().join("few"), 2, &origins).unwrap();
        assert!(folder.path().join("few/team-0/agent-1.json").is_file());
    }
}
