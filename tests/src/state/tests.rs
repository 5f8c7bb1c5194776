//! What a sweep takes away, and what it must leave alone.

use std::process::{Child, Command};

use super::*;

/// No process has this start time: the machine would have to run for ages.
const DEAD: &str = "4000000-18446744073709551615";

fn sleeper() -> (Child, Resource) {
    use std::os::unix::process::CommandExt;
    let child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
    let line = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
    let start = line.rsplit(' ').nth(30).unwrap();
    let id = format!("{}-{start}", child.id());
    (child, Resource::Process(id.parse().unwrap()))
}

fn lives(resource: &Resource) -> bool {
    matches!(resource, Resource::Process(id) if id.is_alive())
}

#[tokio::test]
async fn takes_away_what_a_dead_owner_left() {
    let root = tempfile::tempdir().unwrap();
    let (mut child, process) = sleeper();
    assert!(lives(&process));
    let run = RunDir::create(root.path(), DEAD).unwrap();
    run.record(&process).unwrap().keep();
    fs::write(run.path().join("some.log"), "text").unwrap();
    sweep_below(root.path()).await.unwrap();
    child.wait().unwrap();
    assert!(!lives(&process));
    assert!(!run.path().exists());
}

#[tokio::test]
async fn leaves_what_a_living_owner_holds() {
    let root = tempfile::tempdir().unwrap();
    let (mut child, process) = sleeper();
    for owner in [ProcessId::current().unwrap().to_string(), CLUSTER.to_owned(), NODE.to_owned()] {
        let run = RunDir::create(root.path(), &owner).unwrap();
        let _record = run.record(&process).unwrap();
        // A second owner, dead by now, wanted the same thing for a moment.
        RunDir::create(root.path(), DEAD).unwrap().record(&process).unwrap().keep();
        sweep_below(root.path()).await.unwrap();
        assert!(lives(&process), "{owner}");
        assert!(run.path().exists(), "{owner}");
        assert!(!root.path().join(DEAD).exists(), "{owner}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn leaves_files_that_are_not_its_own() {
    let root = tempfile::tempdir().unwrap();
    let other = root.path().join("somebody-elses");
    fs::create_dir(&other).unwrap();
    sweep_below(root.path()).await.unwrap();
    assert!(other.exists());
}

#[test]
fn a_record_goes_with_its_thing() {
    let root = tempfile::tempdir().unwrap();
    let run = RunDir::create(root.path(), DEAD).unwrap();
    let bridge = Resource::Interface("krypton7".to_owned());
    let record = run.record(&bridge).unwrap();
    assert_eq!(recorded(run.path()), [bridge]);
    drop(record);
    assert_eq!(recorded(run.path()), []);
}

#[test]
fn a_resource_survives_the_way_through_its_file_name() {
    let interface = Resource::Interface("krypton1".to_owned());
    let cgroup = Resource::Cgroup("krypton1".to_owned());
    for resource in [interface, cgroup, Resource::Process("12-345".parse().unwrap())] {
        assert_eq!(Resource::from_file_name(&resource.file_name()), Some(resource));
    }
    assert_eq!(Resource::from_file_name("etcd-0.log"), None);
    assert_eq!(Resource::from_file_name("process-1-1"), None, "never process 1");
}
