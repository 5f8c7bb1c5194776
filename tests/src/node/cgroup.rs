//! The control groups of a node: one group in each hierarchy, under which kubelet makes all others.
//!
//! Groups outlive their processes, so this is the one thing of a node that does not end by itself. Never touches a group
//! outside the one of the given name.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What kubelet asks for in a unified hierarchy (cgroup v2).
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];

/// A mounted hierarchy.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Hierarchy {
    path: PathBuf,
    unified: bool,
}

/// Makes the group `name` wherever kubelet looks for it.
pub(crate) fn create(name: &str) -> Result<()> {
    let hierarchies = hierarchies()?;
    ensure!(!hierarchies.is_empty(), "no control groups (cgroup) are mounted");
    let separate = hierarchies.iter().any(|hierarchy| !hierarchy.unified);
    // Where both kinds are mounted, the unified one has no controllers and is not used.
    for hierarchy in hierarchies.iter().filter(|hierarchy| !(separate && hierarchy.unified)) {
        if hierarchy.unified {
            let switch = hierarchy.path.join("cgroup.subtree_control");
            for controller in CONTROLLERS {
                // Refused where the kernel lacks it; kubelet complains of what it cannot do without.
                fs::write(&switch, format!("+{controller}")).ok();
            }
        }
        let path = hierarchy.path.join(name);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Removes the group `name` with all below it, in every hierarchy; its processes have ended.
///
/// # Errors
/// When a process is still in one.
pub(crate) fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        remove_tree(&hierarchy.path.join(name))?;
    }
    Ok(())
}

/// `remove_dir_all` does not work here: a group's files go with it and cannot be deleted.
fn remove_tree(path: &Path) -> Result<()> {
    // Missing is what we want.
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn hierarchies() -> Result<Vec<Hierarchy>> {
    Ok(parse(&fs::read_to_string("/proc/self/mounts")?))
}

/// `mounts`: lines of device, mount point, type and more, as in fstab(5).
fn parse(mounts: &str) -> Vec<Hierarchy> {
    let hierarchy = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let path = PathBuf::from(fields.next()?);
        match fields.next()? {
            "cgroup" => Some(Hierarchy { path, unified: false }),
            "cgroup2" => Some(Hierarchy { path, unified: true }),
            _ => None,
        }
    };
    mounts.lines().filter_map(hierarchy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_hierarchies_of_both_kinds() {
        let mounts = "proc /proc proc rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let path = |path: &str| PathBuf::from(path);
        assert_eq!(
            parse(mounts),
            [
                Hierarchy { path: path("/sys/fs/cgroup/cpu"), unified: false },
                Hierarchy { path: path("/sys/fs/cgroup/unified"), unified: true },
            ]
        );
    }

    #[test]
    fn removes_what_is_below_and_does_not_mind_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let group = folder.path().join("group");
        fs::create_dir_all(group.join("pods/one")).unwrap();
        remove_tree(&group).unwrap();
        assert!(!group.exists());
        remove_tree(&group).unwrap();
    }
}
