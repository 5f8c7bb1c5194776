//! `krypton-testbed` with a node: nothing of it is seen on this machine while it runs but a cable and control groups, and
//! nothing at all stays behind however it ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::ensure;
use krypton_e2e::node::images::AGENT;
use krypton_e2e::process::ProcessId;
use krypton_e2e::wait::eventually;
use rustix::process::Signal;

use crate::support::deployment;
use crate::testbed::{Runner, SOON, START_DEADLINE, processes};

/// Where the programs of a node write unless somebody stops them.
const FOLDERS: [&str; 8] = [
    "/run/containerd",
    "/run/netns",
    "/run/runc",
    "/var/lib/containerd",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// What a node could leave on this machine.
#[derive(Debug, Eq, PartialEq)]
struct Traces {
    /// Programs that were given a path in the run's folder (all of the control plane, the node, and each pod's shim), and
    /// those in the node's control groups (the pods').
    processes: Vec<String>,
    interface: bool,
    cgroups: usize,
}

/// What it must never touch.
#[derive(Debug, Eq, PartialEq)]
struct Surroundings {
    mounts: Vec<String>,
    packet_filter: Vec<String>,
    routes: Vec<String>,
    sysctls: Vec<String>,
    /// All files in [`FOLDERS`].
    folders: Vec<PathBuf>,
}

// === impl Traces ===

impl Traces {
    /// Of the node with that run folder and that name of its interface and control groups.
    fn look(folder: &Path, name: &str) -> Self {
        let folder = folder.to_str().unwrap();
        let group = format!(":/{name}/");
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let marked = |path: PathBuf| {
            // Both are unreadable when the process just ended.
            let command = fs::read_to_string(path.join("cmdline")).unwrap_or_default().replace('\0', " ");
            let groups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
            (command.contains(folder) || groups.contains(&group)).then_some(command)
        };
        Self {
            processes: entries.filter_map(|entry| marked(entry.path())).collect(),
            interface: Path::new("/sys/class/net").join(name).exists(),
            cgroups: ["/sys/fs/cgroup".into()]
                .into_iter()
                .chain(fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path()))
                .filter(|hierarchy| hierarchy.join(name).is_dir())
                .count(),
        }
    }

    fn assert_none(&self) {
        assert_eq!(*self, Self { processes: Vec::new(), interface: false, cgroups: 0 });
    }

    /// The node runs a pod.
    fn assert_all(&self) {
        for program in [
            "kubelet",
            "kube-proxy",
            "kube-scheduler",
            "coredns",
            "containerd-shim",
            "/pause",
            "/krypton-example-agent",
        ] {
            assert!(self.processes.iter().any(|command| command.contains(program)), "{program}: {self:?}");
        }
        assert!(self.interface);
        assert!(self.cgroups > 0);
    }
}

// === impl Surroundings ===

impl Surroundings {
    /// Without what other tests make meanwhile: the interfaces and routes of their bridges.
    fn look() -> Self {
        let output = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output().unwrap();
            assert!(output.status.success(), "{program}: {output:?}");
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let value = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
        let mut routes = output("ip", &["route"]);
        routes.retain(|route| !route.contains("dev krypton"));
        let mut packet_filter = output("iptables-save", &[]);
        packet_filter.retain(|line| !line.starts_with('#'));
        Self {
            mounts: output("cat", &["/proc/self/mounts"]),
            packet_filter,
            routes,
            sysctls: ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"]
                .into_iter()
                .map(value)
                .collect(),
            folders: FOLDERS.into_iter().flat_map(below).collect(),
        }
    }
}

/// A path, if it exists, and all below it.
fn below(path: impl Into<PathBuf>) -> Vec<PathBuf> {
    let path = path.into();
    let entries = fs::read_dir(&path).into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.flat_map(|entry| below(entry.path())).collect();
    found.extend(path.exists().then_some(path));
    found
}

/// Runs a pod with the `kubectl` of the node that a runner started, and says so.
fn script() -> String {
    let deployment = deployment("left", AGENT, 1);
    format!(
        "set -e; test \"$KUBECONFIG\" = \"$KRYPTON_TESTBED_NODE\"; test \"$KUBECONFIG\" != \"$KRYPTON_TESTBED\"
         echo '{deployment}' | $KRYPTON_TESTBED_KUBECTL apply --filename -
         $KRYPTON_TESTBED_KUBECTL wait --for=condition=Available --timeout=120s deployment/left; echo up"
    )
}

/// The name of the node's interface and control groups.
fn name(folder: &Path) -> String {
    let mut names =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.find_map(|name| name.strip_prefix("interface-").map(str::to_owned)).unwrap()
}

#[tokio::test]
async fn a_run_with_a_node_takes_all_of_it_away() {
    let before = Surroundings::look();
    let mut runner = Runner::start(&["--node"], &format!("{}; sleep 1000", script()));
    runner.printed("up").await;
    let folder = runner.folder().unwrap();
    let name = name(&folder);
    Traces::look(&folder, &name).assert_all();
    assert_eq!(Surroundings::look(), before, "while it runs");

    runner.signal(Signal::INT);
    assert_eq!(runner.process.ended(SOON).await.unwrap().code(), Some(130));
    Traces::look(&folder, &name).assert_none();
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_node_that_breaks_ends_the_run_and_is_named() {
    let mut runner = Runner::start(&["--node"], "echo up; sleep 1000");
    runner.printed("up").await;
    let folder = runner.folder().unwrap();
    let name = name(&folder);
    let is_kubelet = |process: &ProcessId| {
        let id = process.to_string();
        let (pid, _) = id.split_once('-').unwrap();
        fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().contains("kubelet.json")
    };
    processes(&folder).into_iter().find(is_kubelet).unwrap().kill_group();
    assert_eq!(runner.process.ended(SOON).await.unwrap().code(), Some(1));
    let log = runner.process.log().read().unwrap();
    assert!(log.contains("kubelet ended while the command was running"), "{log}");
    Traces::look(&folder, &name).assert_none();
}

#[tokio::test]
async fn what_a_killed_run_with_a_node_leaves_is_swept_by_the_next_start() {
    let before = Surroundings::look();
    let mut runner = Runner::start(&["--node"], &format!("{}; sleep 1000", script()));
    runner.printed("up").await;
    let folder = runner.folder().unwrap();
    let name = name(&folder);
    Traces::look(&folder, &name).assert_all();

    runner.signal(Signal::KILL);
    runner.process.ended(SOON).await.unwrap();
    eventually("the kernel ended the node and its cable", SOON, async || {
        let traces = Traces::look(&folder, &name);
        ensure!(traces.processes.is_empty() && !traces.interface, "{traces:?}");
        Ok(())
    })
    .await
    .unwrap();

    runner.then(&["can", "cluster"]).await;
    Traces::look(&folder, &name).assert_none();
    assert!(!folder.exists());
    assert_eq!(Surroundings::look(), before);
}

#[tokio::test]
async fn a_standing_node_outlives_its_starter_and_ends_when_told() {
    let mut runner = Runner::start_with(&["up", "--node"]);
    assert!(runner.process.ended(START_DEADLINE).await.unwrap().success());
    let folder = runner.folder().unwrap();
    let said = runner.process.log().read().unwrap();
    let export = format!("export KUBECONFIG={}/kubeconfig", folder.display());
    assert!(said.lines().any(|line| line == export), "{said}");
    let (name, processes) = (name(&folder), processes(&folder));

    // Neither a sweep nor a second `up` touches it.
    runner.then(&["can", "cluster"]).await;
    runner.then(&["up", "--node"]).await;
    assert!(processes.iter().all(|process| process.is_alive()));

    runner.then(&["down"]).await;
    Traces::look(&folder, &name).assert_none();
    assert!(!folder.exists());
}
