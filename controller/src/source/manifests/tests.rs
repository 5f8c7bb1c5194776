//! The folder as a source: what the index is told, and when.

use std::fs;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::index::{Index, Record as _};
use crate::metrics::Metrics;

/// Far above what any change takes, so that only a change that never comes runs into it.
const DEADLINE: Duration = Duration::from_secs(20);

/// A source that runs, with an index behind it.
struct Fixture {
    folder: TempDir,
    index: Index,
    events: mpsc::Receiver<SourceEvent>,
    sources: Sources,
    _tasks: JoinSet<Result<(), ManifestsError>>,
}

fn agent(name: &str, port: i32) -> String {
    format!(
        "apiVersion: krypton.ai/v1alpha1\nkind: Agent\nmetadata: {{name: {name}}}\n\
         spec: {{image: i, port: {port}}}\n"
    )
}

impl Fixture {
    fn start(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for (path, text) in files {
            fs::write(folder.path().join(path), text).unwrap();
        }
        let (sender, events) = mpsc::channel(8);
        let sources = Sources::new(crate::source::Purpose::Routes, Arc::new(Metrics::default()));
        let policy = EndpointPolicy { allow_loopback: true, deny: vec![] };
        let manifests = Manifests::open(folder.path(), policy, sender, sources.clone()).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(manifests.run());
        let index = Index::new(&[Scope::AllNamespaces]);
        Self { folder, index, events, sources, _tasks: tasks }
    }

    /// Takes in events until the routes are `expected`, as `namespace/name:port`.
    async fn until(&mut self, expected: &[&str]) {
        let mut newest = Vec::new();
        let seen = timeout(DEADLINE, async {
            while let Some(event) = self.events.recv().await {
                self.index.apply(event);
                if let Some(snapshot) = self.index.commit() {
                    newest = snapshot.iter().map(|r| format!("{}:{}", r.key(), r.route().port)).collect();
                    newest.sort();
                    if newest == expected {
                        return;
                    }
                }
            }
        });
        assert!(seen.await.is_ok(), "expected {expected:?}, newest {newest:?}");
    }

    /// Waits until the folder has `count` problems.
    async fn until_problems(&self, count: usize) -> Vec<super::super::FileProblem> {
        let mut report = self.sources.subscribe();
        let is = |r: &super::super::SourceReport| {
            r.manifests.as_ref().is_some_and(|folder| folder.problem_count == count)
        };
        let report = timeout(DEADLINE, report.wait_for(is)).await.expect("in time").unwrap().clone();
        report.manifests.unwrap().problems
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.folder.path().join(path), text).unwrap();
    }
}

#[tokio::test]
async fn changes_of_the_folder_become_routes() {
    let mut fixture = Fixture::start(&[("a.yaml", &agent("a", 80))]);
    fixture.until(&["default/a:80"]).await;
    fixture.write("b.yaml", &agent("b", 80));
    fixture.until(&["default/a:80", "default/b:80"]).await;

    // An atomic save.
    fixture.write(".b.yaml.tmp", &agent("b", 81));
    let at = |path: &str| fixture.folder.path().join(path);
    fs::rename(at(".b.yaml.tmp"), at("b.yaml")).unwrap();
    fixture.until(&["default/a:80", "default/b:81"]).await;

    // A rename is no change.
    let at = |path: &str| fixture.folder.path().join(path);
    fs::rename(at("b.yaml"), at("c.yaml")).unwrap();
    fs::remove_file(at("a.yaml")).unwrap();
    fixture.until(&["default/b:81"]).await;

    fs::create_dir(fixture.folder.path().join("sub")).unwrap();
    fixture.write("sub/d.yaml", &agent("d", 80));
    fixture.until(&["default/b:81", "default/d:80"]).await;
}

#[tokio::test]
async fn a_broken_file_is_named_and_takes_nothing_away() {
    let mut fixture = Fixture::start(&[("a.yaml", &agent("a", 80)), ("b.yaml", &agent("b", 80))]);
    fixture.until(&["default/a:80", "default/b:80"]).await;
    fixture.write("a.yaml", "kind: [broken");
    let problems = fixture.until_problems(1).await;
    assert_eq!(problems[0].file, fixture.folder.path().join("a.yaml"));
    assert_eq!(problems[0].at(), "document 1, line 1, column 7");
    fixture.write("b.yaml", &agent("b", 81));
    fixture.until(&["default/a:80", "default/b:81"]).await;
    fixture.write("a.yaml", &agent("a", 82));
    fixture.until(&["default/a:82", "default/b:81"]).await;
    assert_eq!(fixture.until_problems(0).await, []);
}

#[tokio::test]
async fn endpoints_are_told_before_the_agents_that_use_them() {
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: a-1\n  \
        labels: {krypton.ai/agent: a, kubernetes.io/service-name: a}\naddressType: IPv4\n\
        ports: [{name: http, port: 9000}]\nendpoints: [{addresses: [127.0.0.1]}]\n";
    let mut fixture = Fixture::start(&[("a.yaml", &(agent("a", 80) + slice))]);
    let mut order = Vec::new();
    for _ in 0..3 {
        let event = timeout(DEADLINE, fixture.events.recv()).await.unwrap().unwrap();
        order.push(match event {
            SourceEvent::EndpointSlices(Change::Restarted { objects, .. }) => {
                assert_eq!(objects[0].agent().as_str(), "default/a");
                assert_eq!(objects[0].refused(), []);
                "slices"
            }
            SourceEvent::Services(_) => "services",
            SourceEvent::Agents(_) => "agents",
            SourceEvent::EndpointSlices(_) => "one slice",
        });
    }
    assert_eq!(order, ["slices", "services", "agents"]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let open = |path: &Path| {
        let (sender, _events) = mpsc::channel(1);
        let sources = Sources::new(crate::source::Purpose::Routes, Arc::new(Metrics::default()));
        Manifests::open(path, EndpointPolicy::default(), sender, sources).unwrap_err()
    };
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing");
    assert!(matches!(open(&missing), ManifestsError::Unreadable { folder, .. } if folder == missing));
    fs::write(&missing, "").unwrap();
    assert!(open(&missing).to_string().ends_with("missing: not a folder"), "{}", open(&missing));
}
