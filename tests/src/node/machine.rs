//! A machine inside this one, for the programs of a node: Linux namespaces of its own for processes, mounts, network,
//! host name and IPC, and a cable to it.
//!
//! Owns: the namespaces, the interface `krypton<n>`, the control group of that name. Whatever a container runtime does in
//! there (shims, pods, mounts, bridges, packet filter, connection tracking) the kernel ends with the machine's first
//! process, and that ends with us however we end. Only the control groups stay, which are on record.
//!
//! There is no way out of the machine but the cable, and no route beyond this end of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::cgroup;
use super::network::Network;
use crate::bridge::{claim, delete_interface, ip, name};
use crate::process::{Lifetime, ProcessId, Program, Running};
use crate::state::{Record, Resource, RunDir};

/// Milliseconds on an idle machine.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// The machine's own end of the cable.
const CABLE: &str = "eth0";

/// What the machine has its own of: nothing in there may need a file of ours.
const COVERED: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// Sets it up from inside.
const FIRST_PROCESS: &str = include_str!("machine.sh");

/// A running machine; dropping it ends all that runs in it.
#[derive(Debug)]
pub(crate) struct Machine {
    network: Network,
    /// The name of the interface and of the control group.
    name: String,
    /// The first process, as this machine numbers it.
    first: ProcessId,
    first_pid: i32,
    /// Its parent; `None` once the machine was left running.
    unshare: Option<Running>,
    lifetime: Lifetime,
    /// Of the first process, the interface and the control group.
    records: Vec<Record>,
}

// === impl Machine ===

impl Machine {
    /// Starts one that keeps its files in `folder`, which exists; on this machine they are not seen.
    pub(crate) async fn start(folder: &Path, run: &RunDir, lifetime: Lifetime) -> Result<Self> {
        let covered = COVERED.into_iter().find(|covered| folder.starts_with(covered));
        ensure!(covered.is_none(), "a node cannot have its files in {}: set TMPDIR", folder.display());
        ensure!(rustix::process::geteuid().is_root(), "a node needs root");
        let unshare = Program::new("machine", "unshare")
            .args(["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"])
            // A process group of its own makes it one that a sweep can kill.
            .args(["setsid", "sh", "-c", FIRST_PROCESS, "machine.sh"])
            .arg(folder);
        let mut unshare = unshare.lifetime(lifetime).start(run)?;
        let log = unshare.log();
        unshare
            .until("the machine of the node is set up", START_DEADLINE, async || {
                ensure!(log.read()?.ends_with("ready\n"), "not yet");
                Ok(())
            })
            .await?;
        let (first_pid, first) = only_child(unshare.pid())?;
        let first_record = run.record(&Resource::Process(first))?;
        let add = |name: &str| {
            let pid = first_pid.to_string();
            ip(&["link", "add", name, "type", "veth", "peer", "name", CABLE, "netns", &pid])
        };
        let (number, interface_record) = claim(run, add)?;
        let name = name(number);
        let cgroup_record = run.record(&Resource::Cgroup(name.clone()))?;
        let machine = Self {
            network: Network::new(number),
            name,
            first,
            first_pid,
            unshare: Some(unshare),
            lifetime,
            records: vec![first_record, interface_record, cgroup_record],
        };
        cgroup::create(&machine.name)?;
        machine.plug_in()?;
        Ok(machine)
    }

    /// Addresses at both ends of the cable, and the ways to pods and Services through it.
    fn plug_in(&self) -> Result<()> {
        let network = self.network;
        let node = network.node().to_string();
        ip(&["address", "add", &format!("{}/30", network.host()), "dev", &self.name])?;
        ip(&["link", "set", &self.name, "up"])?;
        let inside = |args: &[&str]| {
            let mut command = std::process::Command::new("nsenter");
            let output =
                command.args(["--target", &self.first_pid.to_string(), "--net", "ip"]).args(args).output()?;
            ensure!(
                output.status.success(),
                "ip {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(())
        };
        inside(&["address", "add", &format!("{node}/30"), "dev", CABLE])?;
        inside(&["link", "set", CABLE, "up"])?;
        for range in [network.pods(), network.services()] {
            ip(&["route", "add", &range, "via", &node, "dev", &self.name])?;
        }
        Ok(())
    }

    pub(crate) fn network(&self) -> Network {
        self.network
    }

    /// The control group for the node, the same in every hierarchy.
    pub(crate) fn cgroup(&self) -> String {
        format!("/{}", self.name)
    }

    /// A program that runs in it. Its working folder is `/` there, so its arguments must name whole paths.
    pub(crate) fn program(&self, name: &str, path: impl AsRef<Path>) -> Program {
        Program::new(name, "nsenter")
            .arg("--target")
            .arg(self.first_pid.to_string())
            .args(["--mount", "--net", "--uts", "--ipc", "--pid", "--"])
            .arg(path.as_ref())
            .lifetime(self.lifetime)
    }

    /// Whether its first process ended by itself.
    pub(crate) fn ended(&mut self) -> Result<bool> {
        let status = self.unshare.as_mut().map(Running::exit_status).transpose()?;
        Ok(status.flatten().is_some())
    }

    /// Lets it run on after this process.
    pub(crate) fn leave_running(mut self) {
        self.records.drain(..).for_each(Record::keep);
        if let Some(unshare) = self.unshare.take() {
            unshare.leave_running();
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Some(mut unshare) = self.unshare.take() else { return };
        if let Some(pid) = Pid::from_raw(self.first_pid).filter(|_| self.first.is_alive()) {
            kill_process(pid, Signal::KILL).ok();
        }
        // It ends when its only child is gone, and the kernel lets a first process go only after all the others.
        unshare.wait();
        delete_interface(&self.name);
        if let Err(error) = cgroup::remove(&self.name) {
            eprintln!("{error:#}: the next start tries again");
            self.records.drain(..).for_each(Record::keep);
        }
    }
}

fn only_child(pid: u32) -> Result<(i32, ProcessId)> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let child = children.trim().parse().context("unshare has not exactly one child")?;
    let id = ProcessId::of(child).context("the first process of the node's machine ended")?;
    Ok((child.try_into()?, id))
}
