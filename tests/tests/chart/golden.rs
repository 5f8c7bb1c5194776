//! Each case's documents, as they were when a person last looked at them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use krypton_crd::crd::agent_crd;

use crate::cases::{CASES, Case};
use crate::documents::{Documents, object, render};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/golden");

/// It is compared with the code instead of with a copy of it.
const DEFINITION: &str = "CustomResourceDefinition agents.krypton.ai";

/// The case that the others are compared with.
const BASE: &str = "defaults";

fn file(name: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("{name}.yaml"))
}

/// All documents of the base; of another case those that are not the same there.
fn shown(documents: &Documents, base: &Documents) -> String {
    let mut text = String::new();
    for id in base.keys().filter(|id| !documents.contains_key(*id)) {
        writeln!(text, "# not there: {id}").unwrap();
    }
    for (id, document) in documents {
        if id != DEFINITION && base.get(id) != Some(document) {
            write!(text, "---\n{}\n", document.text).unwrap();
        }
    }
    text
}

async fn check(case: &Case, base: &Documents) -> Option<String> {
    let shown = shown(&render(case.release, case.values).await, base);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(file(case.name), &shown).unwrap();
    }
    let kept = fs::read_to_string(file(case.name)).unwrap_or_default();
    (kept != shown).then(|| format!("{} is now:\n{shown}", case.name))
}

#[tokio::test]
async fn each_case_is_rendered_as_before() {
    let first = CASES.iter().find(|case| case.name == BASE).unwrap();
    let base = render(first.release, first.values).await;
    let mut changed = Vec::new();
    changed.extend(check(first, &Documents::new()).await);
    for case in CASES.iter().filter(|case| case.name != BASE) {
        changed.extend(check(case, &base).await);
    }
    assert!(changed.is_empty(), "UPDATE_GOLDEN=1 takes them over:\n{}", changed.join("\n"));
}

#[test]
fn each_golden_file_has_a_case() {
    let files = fs::read_dir(FOLDER).unwrap().map(|file| file.unwrap().path());
    let names = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    let cases: BTreeSet<_> = CASES.iter().map(|case| case.name.to_owned()).collect();
    assert_eq!(cases.len(), CASES.len(), "two cases have one name");
    assert_eq!(names.collect::<BTreeSet<_>>(), cases);
}

#[tokio::test]
async fn the_definition_is_that_of_the_code_and_stays() {
    let documents = render(CASES[0].release, CASES[0].values).await;
    let shipped = object(&documents, DEFINITION);
    assert_eq!(shipped["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    let shipped: CustomResourceDefinition = serde_json::from_value(shipped.clone()).unwrap();
    assert_eq!(shipped.spec, agent_crd().spec);
}
