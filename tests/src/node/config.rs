//! What the programs of a node are told: their configuration files. Pure text; [`super`] starts the programs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::images::PAUSE;
use super::network::Network;

/// What names of Services end in.
const DOMAIN: &str = "cluster.local";

/// Where CoreDNS tells whether it is ready, at the node's address.
pub(crate) const DNS_READY_PORT: u16 = 8181;

/// What the API knows the node as.
pub const NODE: &str = "krypton-node";

/// All that the files name.
#[derive(Debug)]
pub(crate) struct Paths {
    /// containerd's socket.
    pub(crate) socket: PathBuf,
    /// The machine's own folder, in its memory.
    pub(crate) data: PathBuf,
    /// The folder of [`network`]'s file.
    pub(crate) networks: PathBuf,
    /// Where the CNI plugins are.
    pub(crate) plugins: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// Signs what the API server shows to kubelet.
    pub(crate) ca: PathBuf,
}

/// containerd's, in TOML: JSON strings are TOML strings too.
pub(crate) fn containerd(paths: &Paths) -> String {
    let text = |path: &Path| Value::from(path.display().to_string());
    let mut lines = vec!["version = 2".to_owned()];
    lines.push(format!("root = {}", text(&paths.data.join("containerd"))));
    lines.push(format!("state = {}", text(&paths.data.join("containerd-state"))));
    lines.push(format!("[grpc]\naddress = {}", text(&paths.socket)));
    // Its folder is of the whole machine.
    lines.push("[plugins.\"io.containerd.internal.v1.opt\"]".to_owned());
    lines.push(format!("path = {}", text(&paths.data.join("containerd-opt"))));
    lines.push("[plugins.\"io.containerd.grpc.v1.cri\"]".to_owned());
    lines.push(format!("sandbox_image = {}", Value::from(PAUSE)));
    // Root in a container may not lower the score of a process, and every pod would fail for that.
    lines.push("restrict_oom_score_adj = true".to_owned());
    // The kernel keeps profiles for the whole machine.
    lines.push("disable_apparmor = true".to_owned());
    lines.push("netns_mounts_under_state_dir = true".to_owned());
    lines.push("[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = \"overlayfs\"".to_owned());
    lines.push("[plugins.\"io.containerd.grpc.v1.cri\".cni]".to_owned());
    lines.push(format!("bin_dir = {}", text(&paths.plugins)));
    lines.push(format!("conf_dir = {}", text(&paths.networks)));
    lines.join("\n") + "\n"
}

/// The network of the pods, a CNI configuration list.
pub(crate) fn network(paths: &Paths, network: Network) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "krypton",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "pods",
                "isGateway": true,
                // Callers see the pod's own address, as in most clusters.
                "ipMasq": false,
                // A pod reaches itself through its Service.
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": paths.data.join("addresses"),
                    "ranges": [[{ "subnet": network.pods() }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

/// kubelet's. The disk and the memory are shared with all that runs here, so their state must not evict pods.
pub(crate) fn kubelet(paths: &Paths, network: Network, cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", paths.socket.display()),
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "failSwapOn": false,
        // Whoever has the API server's certificate may do what it may; nobody else gets in.
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": false },
            "x509": { "clientCAFile": paths.ca },
        },
        "authorization": { "mode": "AlwaysAllow" },
        "readOnlyPort": 0,
        "clusterDNS": [network.node()],
        "clusterDomain": DOMAIN,
        // Pods must not ask the name servers of this machine.
        "resolvConf": "",
        "volumePluginDir": paths.data.join("volume-plugins"),
        "podLogsDir": paths.data.join("pod-logs"),
    })
}

/// CoreDNS's. It knows the names of the cluster; others do not exist, which is known without asking anybody.
pub(crate) fn dns(paths: &Paths, network: Network) -> String {
    let node = network.node();
    let kubeconfig = Value::from(paths.kubeconfig.display().to_string());
    format!(
        "{DOMAIN}:53 in-addr.arpa:53 {{\n\
         \tbind {node}\n\
         \terrors\n\
         \tready {node}:{DNS_READY_PORT}\n\
         \tkubernetes {{\n\
         \t\tkubeconfig {kubeconfig}\n\
         \t}}\n\
         }}\n\
         .:53 {{\n\
         \tbind {node}\n\
         \terrors\n\
         \ttemplate ANY ANY {{\n\
         \t\trcode NXDOMAIN\n\
         \t}}\n\
         }}\n"
    )
}

/// kube-proxy's.
pub(crate) fn proxy(paths: &Paths, network: Network) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": paths.kubeconfig },
        "hostnameOverride": NODE,
        "mode": "iptables",
        "clusterCIDR": network.pods(),
        // Limits of connection tracking are of the whole machine.
        "conntrack": { "maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
    })
}
