//! Which files are read, and when.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::index::Record as _;

fn agent(name: &str) -> String {
    format!("apiVersion: krypton.ai/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\nspec: {{image: i}}\n")
}

fn mk_scanner(folder: &TempDir) -> Scanner {
    Scanner::new(folder.path().to_owned(), EndpointPolicy::default())
}

fn names(scanner: &Scanner) -> Vec<String> {
    scanner.library().resolve().agents.iter().map(|agent| agent.id().name.clone()).collect()
}

fn problems(scanner: &Scanner) -> Vec<String> {
    scanner.library().resolve().problems.iter().map(|problem| problem.reason.clone()).collect()
}

#[test]
fn manifests_are_found_in_every_folder_and_nothing_else_is() {
    let folder = TempDir::new().unwrap();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir_all(at("sub/deeper")).unwrap();
    fs::create_dir_all(at(".git")).unwrap();
    for (path, name) in [
        ("a.yaml", "a"),
        ("sub/b.yml", "b"),
        ("sub/deeper/c.yaml", "c"),
        (".hidden.yaml", "hidden"),
        (".git/d.yaml", "git"),
        ("#e.yaml", "autosave"),
        ("f.yaml~", "backup"),
        ("g.yaml.swp", "swap"),
        ("notes.txt", "notes"),
    ] {
        fs::write(at(path), agent(name)).unwrap();
    }
    let json = r#"{"apiVersion": "krypton.ai/v1alpha1", "kind": "Agent", "metadata": {"name": "j"},
        "spec": {"image": "i"}}"#;
    fs::write(at("j.json"), json).unwrap();
    symlink(at("sub"), at("sub/deeper/up")).unwrap();
    let mut scanner = mk_scanner(&folder);
    assert!(scanner.scan());
    assert_eq!(names(&scanner), ["a", "j", "b", "c"]);
    assert_eq!(problems(&scanner), [] as [String; 0]);
}

#[test]
fn a_configmap_is_followed_through_its_links() {
    let folder = TempDir::new().unwrap();
    let at = |path: &str| folder.path().join(path);
    for (version, name) in [("..one", "old"), ("..two", "new")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("agent.yaml"), agent(name)).unwrap();
    }
    symlink("..one", at("..data")).unwrap();
    symlink("..data/agent.yaml", at("agent.yaml")).unwrap();
    let mut scanner = mk_scanner(&folder);
    scanner.scan();
    assert_eq!(names(&scanner), ["old"]);
    symlink("..two", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    assert!(scanner.scan());
    assert_eq!(names(&scanner), ["new"]);
}

#[test]
fn a_change_is_seen_however_soon_it_comes() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("a.yaml");
    let mut scanner = mk_scanner(&folder);
    for name in ["aa", "ab", "ac", "ad"] {
        fs::write(&file, agent(name)).unwrap();
        assert!(scanner.scan());
        assert_eq!(names(&scanner), [name]);
    }
    fs::remove_file(&file).unwrap();
    assert!(scanner.scan());
    assert_eq!(names(&scanner), [] as [String; 0]);
    assert!(!scanner.scan(), "nothing has changed");
}

#[test]
fn what_cannot_be_read_keeps_what_it_held() {
    let folder = TempDir::new().unwrap();
    let sub = folder.path().join("sub");
    fs::create_dir(&sub).unwrap();
    fs::write(sub.join("a.yaml"), agent("a")).unwrap();
    fs::write(folder.path().join("b.yaml"), agent("b")).unwrap();
    let mut scanner = mk_scanner(&folder);
    scanner.scan();

    // Replaced by a link that leads nowhere, as for a moment when a volume is mounted anew.
    fs::remove_file(folder.path().join("b.yaml")).unwrap();
    symlink("nowhere", folder.path().join("b.yaml")).unwrap();
    scanner.scan();
    assert_eq!(names(&scanner), ["b", "a"]);
    assert!(problems(&scanner)[0].starts_with("the file cannot be read: "));

    fs::rename(folder.path(), folder.path().with_extension("moved")).unwrap();
    scanner.scan();
    assert_eq!(names(&scanner), ["b", "a"]);
    assert!(problems(&scanner)[0].starts_with("the folder cannot be read: "));
    fs::rename(folder.path().with_extension("moved"), folder.path()).unwrap();
}

#[test]
fn what_is_no_plain_file_is_not_opened() {
    let folder = TempDir::new().unwrap();
    let pipe = folder.path().join("pipe.yaml");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    fs::write(folder.path().join("a.yaml"), agent("a")).unwrap();
    let mut scanner = mk_scanner(&folder);
    scanner.scan();
    assert_eq!(names(&scanner), ["a"]);
}
