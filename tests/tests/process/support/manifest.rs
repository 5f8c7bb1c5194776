//! A folder of manifests, and the texts in it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;

/// A folder that goes with the test.
pub(crate) struct Manifests(TempDir);

/// A pod of an agent, in a slice of its own: processes of one machine cannot share a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pod {
    pub(crate) address: SocketAddr,
    pub(crate) terminating: bool,
}

// === impl Manifests ===

impl Manifests {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// One file, `echo.yaml`: the agent `echo` with pods at these addresses.
    pub(crate) fn with_echo(pods: &[SocketAddr]) -> Self {
        let manifests = Self::new();
        manifests.put("echo.yaml", agent("echo", "protocol: http", pods));
        manifests
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file as `kubectl` and editors that care do: aside, then renamed into its place.
    pub(crate) fn put(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        let aside = path.with_file_name(".aside");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, path).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }
}

// === impl Pod ===

impl Pod {
    pub(crate) fn ready(address: SocketAddr) -> Self {
        Self { address, terminating: false }
    }

    pub(crate) fn terminating(address: SocketAddr) -> Self {
        Self { address, terminating: true }
    }
}

/// An Agent with these fields in its spec, and pods that take calls.
pub(crate) fn agent(name: &str, spec: &str, pods: &[SocketAddr]) -> String {
    let pods: Vec<Pod> = pods.iter().copied().map(Pod::ready).collect();
    agent_with_pods(name, spec, &pods)
}

/// The same, with pods in any state.
pub(crate) fn agent_with_pods(name: &str, spec: &str, pods: &[Pod]) -> String {
    let mut text = agent_alone(name, spec);
    for pod in pods {
        text.push_str("---\n");
        text.push_str(&slice(name, pod));
    }
    text
}

/// An Agent without pods; `spec` may be several lines.
pub(crate) fn agent_alone(name: &str, spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: krypton.ai/v1alpha1\nkind: Agent\nmetadata:\n  name: {name}\nspec:\n  image: example\n  {spec}\n"
    )
}

/// The slice of one pod, named after its port.
pub(crate) fn slice(agent: &str, pod: &Pod) -> String {
    let (ip, port, terminating) = (pod.address.ip(), pod.address.port(), pod.terminating);
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {agent}-{port}
  labels:
    krypton.ai/agent: {agent}
    kubernetes.io/service-name: {agent}
addressType: IPv4
ports:
  - name: http
    port: {port}
endpoints:
  - addresses: [{ip}]
    targetRef: {{ kind: Pod, name: {agent}-{port}, uid: uid-{agent}-{port} }}
    conditions: {{ ready: {}, serving: true, terminating: {terminating} }}
",
        !terminating
    )
}
