//! A mistake never takes an agent away, and the first file wins.

use krypton_discovery::EndpointPolicy;

use super::super::parse::parse;
use super::*;
use crate::index::Record as _;

fn agent(name: &str, port: i32) -> String {
    format!(
        "---\napiVersion: krypton.ai/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\n\
         spec: {{image: i, port: {port}}}\n"
    )
}

fn set(library: &mut Library, path: &str, text: &str) {
    library.set(Path::new(path), parse(text.as_bytes(), false, &EndpointPolicy::default()));
}

/// Agents as `name:port`, and the number of problems.
fn resolved(library: &Library) -> (Vec<String>, usize) {
    let resolved = library.resolve();
    let port = |agent: &AgentObject| agent.template().port.get();
    let agents = resolved.agents.iter().map(|agent| format!("{}:{}", agent.id().name, port(agent)));
    (agents.collect(), resolved.problems.len())
}

#[test]
fn a_broken_file_keeps_its_last_good_objects() {
    let mut library = Library::default();
    set(&mut library, "f.yaml", &(agent("a", 1) + &agent("b", 1)));
    set(&mut library, "f.yaml", "kind: [broken");
    assert_eq!(resolved(&library), (vec!["a:1".into(), "b:1".into()], 1));
    set(&mut library, "f.yaml", "");
    assert_eq!(resolved(&library), (vec!["a:1".into(), "b:1".into()], 1));
    set(&mut library, "f.yaml", &agent("b", 2));
    assert_eq!(resolved(&library), (vec!["b:2".into()], 0));
}

#[test]
fn a_bad_document_keeps_what_was_and_lets_the_others_change() {
    let mut library = Library::default();
    set(&mut library, "f.yaml", &(agent("a", 1) + &agent("b", 1)));
    set(&mut library, "f.yaml", &(agent("a", -1) + &agent("b", 2) + &agent("c", 2)));
    assert_eq!(resolved(&library), (vec!["a:1".into(), "b:2".into(), "c:2".into()], 1));
}

#[test]
fn of_a_name_given_twice_the_first_file_by_path_wins() {
    let mut library = Library::default();
    set(&mut library, "b.yaml", &agent("x", 2));
    set(&mut library, "a.yaml", &(agent("x", 1) + &agent("x", 9)));
    assert_eq!(resolved(&library), (vec!["x:1".into()], 2));
    let problems = library.resolve().problems;
    assert_eq!(problems[0].reason, "Agent default/x stands in this file twice; the first one is used");
    assert_eq!(problems[1].reason, "Agent default/x stands in a.yaml too, which is used");
    assert_eq!(problems[1].file, Path::new("b.yaml"));
    assert!(library.remove_if(|path| path == Path::new("a.yaml")));
    assert_eq!(resolved(&library), (vec!["x:2".into()], 0));
}

#[test]
fn a_known_problem_is_not_new() {
    let mut library = Library::default();
    set(&mut library, "f.yaml", "kind: [broken");
    let first = library.resolve();
    assert_eq!(first.new_problems(&[]).len(), 1);
    assert_eq!(library.resolve().new_problems(&first.problems), []);
    set(&mut library, "f.yaml", "\n\nkind: [broken");
    assert_eq!(library.resolve().new_problems(&first.problems).len(), 1);
}
