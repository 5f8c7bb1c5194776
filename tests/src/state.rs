//! What this machine holds because of us: the state folder.
//!
//! Owns: `$TMPDIR/krypton-testbed-<uid>/`. Below it one folder per process that made something, called
//! `<pid>-<start time>` after its owner, and `cluster` and `node` for what `make cluster` left running on purpose. In
//! such a folder each process, network interface and control group is one file that says all in its name, made before
//! the thing and removed after it. Of a node that is all there is: its mounts, pods, network namespaces, interfaces and
//! packet filter end with its machine's first process ([`crate::node`]).
//!
//! Never kills or deletes what is not recorded here, nor a process whose id went to somebody else (the start time
//! tells), nor anything of an owner that still lives.
//!
//! Flow: [`sweep`] at every start; [`RunDir::of_this_process`]; [`RunDir::record`] for each thing made; the
//! [`Record`] removes itself when its thing is gone.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bridge;
use crate::node::cgroup;
use crate::process::ProcessId;
use crate::wait::eventually;

/// The folders of what `make cluster` left running, without and with a node: they have no owner and are never swept.
const CLUSTER: &str = "cluster";
const NODE: &str = "node";

/// How long the kernel may take to clear away a killed process.
const END_DEADLINE: Duration = Duration::from_secs(10);

/// A thing that outlives its maker unless somebody takes it away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resource {
    /// The leader of a process group of ours.
    Process(ProcessId),
    /// A network interface, by name.
    Interface(String),
    /// A control group with all below it, by its name in every hierarchy.
    Cgroup(String),
}

/// The folder of one owner's records, logs and data.
#[derive(Clone, Debug)]
pub struct RunDir {
    path: PathBuf,
}

/// Stands for a resource while it exists; dropping it says that the resource is gone.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    kept: bool,
}

// === impl Resource ===

impl Resource {
    fn file_name(&self) -> String {
        match self {
            Resource::Process(id) => format!("process-{id}"),
            Resource::Interface(name) => format!("interface-{name}"),
            Resource::Cgroup(name) => format!("cgroup-{name}"),
        }
    }

    /// `None` for the other files of a run folder.
    fn from_file_name(name: &str) -> Option<Self> {
        let (kind, rest) = name.split_once('-')?;
        match kind {
            "process" => rest.parse().ok().map(Resource::Process),
            "interface" => Some(Resource::Interface(rest.to_owned())),
            "cgroup" => Some(Resource::Cgroup(rest.to_owned())),
            _ => None,
        }
    }

    fn running(&self) -> Option<ProcessId> {
        match self {
            Resource::Process(id) if id.is_alive() => Some(*id),
            _ => None,
        }
    }

    /// Takes it away; processes must be dead before what they live in can go.
    fn remove(&self) -> Result<()> {
        match self {
            Resource::Process(id) => id.kill_group(),
            Resource::Interface(name) => bridge::delete_interface(name),
            Resource::Cgroup(name) => cgroup::remove(name)?,
        }
        Ok(())
    }
}

// === impl RunDir ===

impl RunDir {
    /// This process's own folder, made at the first call.
    ///
    /// # Errors
    /// When the state folder cannot be made or belongs to somebody else.
    pub fn of_this_process() -> Result<&'static Self> {
        static OF_THIS_PROCESS: OnceLock<RunDir> = OnceLock::new();
        if let Some(run) = OF_THIS_PROCESS.get() {
            return Ok(run);
        }
        let run = Self::create(&root()?, &ProcessId::current()?.to_string())?;
        Ok(OF_THIS_PROCESS.get_or_init(|| run))
    }

    /// The folder of the control plane that `make cluster` leaves running.
    ///
    /// # Errors
    /// As [`RunDir::of_this_process`].
    pub fn of_the_standing_cluster() -> Result<Self> {
        Self::create(&root()?, CLUSTER)
    }

    /// The folder of the node that `make cluster NODE=1` leaves running.
    ///
    /// # Errors
    /// As [`RunDir::of_this_process`].
    pub fn of_the_standing_node() -> Result<Self> {
        Self::create(&root()?, NODE)
    }

    pub(crate) fn create(root: &Path, name: &str) -> Result<Self> {
        let path = root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where logs and data of this run go.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records `resource`. Call it before making what has a name known beforehand, so that a crash in between leaves
    /// a record without a thing rather than a thing without a record.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record(&self, resource: &Resource) -> Result<Record> {
        let path = self.path.join(resource.file_name());
        fs::write(&path, "").with_context(|| format!("cannot record {}", path.display()))?;
        Ok(Record { path, kept: false })
    }

    /// Whether `resource` is on record here.
    pub(crate) fn holds(&self, resource: &Resource) -> bool {
        self.path.join(resource.file_name()).exists()
    }

    /// The processes on record here that still run.
    pub fn running(&self) -> Vec<ProcessId> {
        recorded(&self.path).iter().filter_map(Resource::running).collect()
    }

    /// Takes away all that is on record here, and the folder with its logs and data.
    ///
    /// # Errors
    /// When a killed process does not end.
    pub async fn clear(&self) -> Result<()> {
        remove_all(&self.path, &[]).await
    }
}

// === impl Record ===

impl Record {
    /// Leaves the record in place: the resource is meant to outlive this process.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.kept {
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Takes away what dead owners left behind; what living ones and `make cluster` hold stays.
///
/// # Errors
/// When the state folder cannot be read or belongs to somebody else, or a killed process does not end.
pub async fn sweep() -> Result<()> {
    sweep_below(&root()?).await
}

async fn sweep_below(root: &Path) -> Result<()> {
    let mut dead = Vec::new();
    let mut held = Vec::new();
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let owner = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match owner.parse::<ProcessId>() {
            Ok(owner) if !owner.is_alive() => dead.push(path),
            Ok(_) => held.extend(recorded(&path)),
            Err(_) if [CLUSTER, NODE].contains(&owner) => held.extend(recorded(&path)),
            Err(_) => {}
        }
    }
    for path in dead {
        remove_all(&path, &held).await?;
    }
    Ok(())
}

/// `held`: what a living owner has on record too. Two processes that wanted the same bridge name at once both had a
/// record of it for a moment, and only one got it.
async fn remove_all(run: &Path, held: &[Resource]) -> Result<()> {
    let ours: Vec<_> = recorded(run).into_iter().filter(|resource| !held.contains(resource)).collect();
    let (processes, others): (Vec<_>, Vec<_>) =
        ours.iter().partition(|resource| matches!(resource, Resource::Process(_)));
    for process in processes {
        process.remove()?;
    }
    // A process that is killed goes on for a moment, and may write into the folder until then.
    eventually("the end of killed processes", END_DEADLINE, async || {
        let left: Vec<_> = ours.iter().filter_map(Resource::running).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    for other in others {
        other.remove()?;
    }
    fs::remove_dir_all(run).ok();
    Ok(())
}

fn recorded(run: &Path) -> Vec<Resource> {
    // Unreadable means that another sweep removed it a moment ago.
    let entries = fs::read_dir(run).into_iter().flatten().flatten();
    entries.filter_map(|entry| Resource::from_file_name(entry.file_name().to_str()?)).collect()
}

/// Short on purpose: etcd's Unix sockets live below it, and their paths may have 107 bytes. Gone after a reboot on most
/// systems, as the things it records are.
fn root() -> Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let path = std::env::temp_dir().join(format!("krypton-testbed-{uid}"));
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("cannot make {}", path.display()));
        }
        _ => {}
    }
    // In a folder that everybody may write to, somebody else may have been first; we kill by what stands in there.
    let metadata = fs::symlink_metadata(&path)?;
    let others = metadata.permissions().mode() & 0o077;
    ensure!(
        metadata.is_dir() && metadata.uid() == uid && others == 0,
        "{} must be a folder that only you may enter; remove it",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests;
