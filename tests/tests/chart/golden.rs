//! Each case's documents, as they were when a person last looked at them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use krypton_crd::crd::agent_crd;
use krypton_e2e::helm::CHART;
use serde_json::Value;

use crate::cases::{CASES, Case};
use crate::documents::{Documents, object, render};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/golden");

/// Compared with where it comes from instead of with a copy of that, as the dashboards are.
const DEFINITION: &str = "CustomResourceDefinition agents.krypton.ai";
const DASHBOARDS: &str = "/krypton-dashboards";

/// The case that the others are compared with.
const BASE: &str = "defaults";

fn file(name: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("{name}.yaml"))
}

/// All documents of the base; of another case what is not the same there. Comments, so that it is YAML still: `#-` is a
/// line of the base, `#+` one that is there instead.
fn shown(documents: &Documents, base: &Documents) -> String {
    let mut text = String::new();
    for id in base.keys().filter(|id| !documents.contains_key(*id)) {
        writeln!(text, "# not there: {id}").unwrap();
    }
    let copies = |id: &str| id == DEFINITION || id.ends_with(DASHBOARDS);
    for (id, document) in documents.iter().filter(|(id, _)| !copies(id)) {
        match base.get(id) {
            None => write!(text, "---\n{}\n", document.text).unwrap(),
            Some(before) if before == document => {}
            Some(before) => write!(text, "---\n# {id}\n{}", changes(&before.text, &document.text)).unwrap(),
        }
    }
    text
}

/// The lines that are only in one of them, with the one before each group, by the longest common subsequence.
fn changes(old: &str, new: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
    // Of the ends of both from there.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (i, before) in old.iter().enumerate().rev() {
        for (j, after) in new.iter().enumerate().rev() {
            common[i][j] = if before == after {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text, mut context) = (0, 0, String::new(), None);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            context = Some(old[i]);
            (i, j) = (i + 1, j + 1);
            continue;
        }
        if let Some(line) = context.take() {
            writeln!(text, "#  {line}").unwrap();
        }
        let removed = j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]);
        if removed {
            writeln!(text, "#- {}", old[i]).unwrap();
            i += 1;
        } else {
            writeln!(text, "#+ {}", new[j]).unwrap();
            j += 1;
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

#[tokio::test]
async fn the_dashboards_are_the_files() {
    let files = fs::read_dir(format!("{CHART}/files/dashboards")).into_iter().flatten();
    let files: BTreeMap<String, Value> = files
        .map(|file| {
            let file = file.unwrap();
            (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap().into())
        })
        .collect();
    let documents = render(CASES[0].release, "dashboards: {enabled: true, namespace: monitoring}").await;
    let id = format!("ConfigMap monitoring{DASHBOARDS}");
    if files.is_empty() {
        assert!(!documents.contains_key(&id));
        return;
    }
    let dashboards = object(&documents, &id);
    assert_eq!(dashboards["data"], serde_json::to_value(files).unwrap());
    assert_eq!(dashboards["metadata"]["labels"]["grafana_dashboard"], "1");
}
