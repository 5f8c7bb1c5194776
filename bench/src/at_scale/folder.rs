//! The folder of manifests: one file an agent, a folder a namespace. The first agent is the one that is changed.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use anyhow::Context as _;
use tempfile::TempDir;

use super::pods::Pods;
use crate::routes::{ENDPOINTS, address, names, pod_uid};

/// The folder, gone with this value.
pub(super) struct Folder {
    dir: TempDir,
    pods: [SocketAddrV4; 2],
}

// === impl Folder ===

impl Folder {
    /// A folder with so many agents, the first of them at the first of `pods`.
    pub(super) fn fill(agents: usize, pods: &Pods) -> anyhow::Result<Self> {
        let folder = Self { dir: TempDir::with_prefix("krypton-bench-")?, pods: pods.addresses() };
        for n in 1..agents {
            let endpoints: Vec<_> = (0..ENDPOINTS).map(|pod| (address(n, pod), pod_uid(n, pod))).collect();
            folder.write(n, 8080, &endpoints)?;
        }
        folder.move_to(1)?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &str {
        self.dir.path().to_str().unwrap_or_default()
    }

    /// The agent that is called is at this pod from now on.
    pub(super) fn move_to(&self, pod: usize) -> anyhow::Result<()> {
        let address = self.pods[pod];
        self.write(0, address.port(), &[(*address.ip(), pod_uid(0, pod))])
    }

    /// As editors and `kubectl` write: beside the file, then renamed over it.
    fn write(&self, n: usize, port: u16, endpoints: &[(Ipv4Addr, String)]) -> anyhow::Result<()> {
        let (namespace, name) = names(n);
        let dir = self.dir.path().join(&namespace);
        fs::create_dir_all(&dir)?;
        let temporary = dir.join(format!(".{name}.new"));
        fs::write(&temporary, manifest(&namespace, &name, port, endpoints))?;
        rename(&temporary, &dir.join(format!("{name}.yaml")))
    }
}

fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::rename(from, to).with_context(|| to.display().to_string())
}

fn manifest(namespace: &str, name: &str, port: u16, endpoints: &[(Ipv4Addr, String)]) -> String {
    let mut text = format!(
        "apiVersion: krypton.ai/v1alpha1
kind: Agent
metadata:
  namespace: {namespace}
  name: {name}
spec:
  image: registry.example.com/agent:1
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  namespace: {namespace}
  name: {name}-1
  labels:
    krypton.ai/agent: {name}
    kubernetes.io/service-name: {name}
addressType: IPv4
ports:
  - name: http
    port: {port}
endpoints:
"
    );
    for (address, uid) in endpoints {
        write!(
            text,
            "  - addresses: [{address}]
    conditions: {{ ready: true }}
    targetRef: {{ kind: Pod, name: {name}, uid: {uid} }}
"
        )
        .expect("writing into a string cannot fail");
    }
    text
}
