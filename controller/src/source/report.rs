//! How the sources fare, for `/debug/sources`, `/readyz`, metrics and the log.
//!
//! A change of state is logged here, once, whoever noticed it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::object::{Kind, ObjectId, Scope};

/// Refused objects listed for one watch; the rest is only counted.
const LISTED_OBJECTS: usize = 100;

/// Problems listed for a folder; the rest is only counted.
const LISTED_PROBLEMS: usize = 100;

/// The one place where sources say how they fare. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sources {
    report: Arc<watch::Sender<SourceReport>>,
    purpose: Purpose,
    metrics: Arc<Metrics>,
}

/// What the sources are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Routes: watched by every controller.
    Routes,
    /// Workloads and statuses: watched by the leader.
    Workloads,
}

/// How the sources fare.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceReport {
    /// Watches of the Kubernetes API, by kind and scope.
    pub watches: Vec<WatchReport>,
    /// The folder of manifests, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifests: Option<FolderReport>,
    /// Slices with endpoints that may not be dialled, with the first reason of each; at most 100.
    pub refused_endpoints: Vec<RefusedObject>,
}

/// How one watch fares.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WatchReport {
    /// What it watches.
    pub kind: Kind,
    /// Where it watches.
    #[serde(serialize_with = "as_text")]
    pub scope: Scope,
    /// Its state.
    pub state: WatchState,
    /// The newest error, while it is not live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many objects exist that could not be used.
    pub refused: usize,
    /// Some of those.
    pub refused_objects: Vec<RefusedObject>,
}

/// The state of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum WatchState {
    /// It has not had its first complete list.
    Starting,
    /// It follows changes.
    Live,
    /// It cannot reach the API server; what is known stays.
    Lost,
}

/// An object that exists and could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedObject {
    /// `namespace/name`.
    pub object: String,
    /// What is wrong with it, naming the field.
    pub reason: String,
}

/// How a folder of manifests fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderReport {
    /// The folder.
    pub folder: PathBuf,
    /// Files in use.
    pub files: usize,
    /// Objects in use.
    pub objects: usize,
    /// How many problems there are.
    pub problem_count: usize,
    /// Some of those.
    pub problems: Vec<FileProblem>,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileProblem {
    /// The file.
    pub file: PathBuf,
    /// Which of its documents, from 1; unset where it is the file as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<usize>,
    /// The line, from 1, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The column, from 1, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// A sentence for a person, naming the field where there is one.
    pub reason: String,
}

// === impl FileProblem ===

impl FileProblem {
    /// Where in the file, e.g. `document 2, line 14, column 3`; empty where it is the file as a whole.
    #[must_use]
    pub fn at(&self) -> String {
        let document = self.document.map(|n| format!("document {n}"));
        let line = self.line.map(|n| format!("line {n}"));
        let column = self.column.map(|n| format!("column {n}"));
        [document, line, column].into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

// === impl Purpose ===

impl Purpose {
    /// The word in the log.
    fn as_str(self) -> &'static str {
        match self {
            Self::Routes => "routes",
            Self::Workloads => "workloads",
        }
    }
}

// === impl Sources ===

impl Sources {
    /// A report with nothing in it.
    #[must_use]
    pub fn new(purpose: Purpose, metrics: Arc<Metrics>) -> Self {
        Self { report: Arc::new(watch::Sender::default()), purpose, metrics }
    }

    /// The report as it is now.
    #[must_use]
    pub fn report(&self) -> SourceReport {
        self.report.borrow().clone()
    }

    /// A reader that can wait for changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<SourceReport> {
        self.report.subscribe()
    }

    /// Enters the watch of `kind` in `scope`.
    pub fn add_watch(&self, kind: Kind, scope: &Scope) {
        let watch = WatchReport {
            kind,
            scope: scope.clone(),
            state: WatchState::Starting,
            error: None,
            refused: 0,
            refused_objects: Vec::new(),
        };
        self.report.send_modify(|report| report.watches.push(watch));
        self.metrics.set_source_up(self.purpose, kind, false);
    }

    /// The watch of `kind` in `scope` is complete and follows changes.
    pub fn watch_is_live(&self, kind: Kind, scope: &Scope) {
        let before = self.change(kind, scope, |watch| {
            watch.error = None;
            watch.state = WatchState::Live;
        });
        match before.map(|watch| (watch.state, watch.error.is_some())) {
            Some((WatchState::Starting, _)) => {
                log::info!(of = self.purpose.as_str(), kind:% = kind, scope:% = scope; "Watch is complete");
            }
            Some((WatchState::Lost, _)) => {
                log::info!(of = self.purpose.as_str(), kind:% = kind, scope:% = scope; "Watch is back");
            }
            Some((WatchState::Live, _)) | None => {}
        }
    }

    /// The watch of `kind` in `scope` failed and is tried again.
    pub fn watch_failed(&self, kind: Kind, scope: &Scope, error: String) {
        let told = error.clone();
        let before = self.change(kind, scope, |watch| {
            watch.error = Some(error);
            if watch.state == WatchState::Live {
                watch.state = WatchState::Lost;
            }
        });
        match before.map(|watch| (watch.state, watch.error)) {
            Some((WatchState::Live, _)) => {
                log::warn!(of = self.purpose.as_str(), kind:% = kind, scope:% = scope, error = told.as_str();
                    "Watch was lost; what is known stays in use while it is tried again");
            }
            Some((WatchState::Starting, None)) => {
                log::warn!(of = self.purpose.as_str(), kind:% = kind, scope:% = scope, error = told.as_str();
                    "Watch cannot start; it is tried again");
            }
            Some((_, known)) if known.as_deref() != Some(told.as_str()) => {
                log::debug!(kind:% = kind, scope:% = scope, error = told.as_str(); "Watch still fails");
            }
            _ => {}
        }
    }

    /// The objects that the watch of `kind` in `scope` cannot use at present.
    pub fn set_refused(&self, kind: Kind, scope: &Scope, refused: &BTreeMap<ObjectId, String>) {
        self.change(kind, scope, |watch| {
            watch.refused = refused.len();
            let listed = refused.iter().take(LISTED_OBJECTS);
            watch.refused_objects = listed
                .map(|(id, reason)| RefusedObject { object: id.to_string(), reason: reason.clone() })
                .collect();
        });
    }

    /// A version of an object could not be used.
    pub fn object_refused(&self, kind: Kind, id: &ObjectId, reason: &str) {
        self.metrics.count_refused_object(kind);
        log::warn!(kind:% = kind, object:% = id, reason; "Object cannot be used; its last good version stays");
    }

    /// The slices that have endpoints which may not be dialled, and how many such endpoints there are.
    pub fn set_refused_endpoints(&self, count: usize, slices: impl Iterator<Item = RefusedObject>) {
        self.metrics.set_refused_endpoints(count);
        let slices = slices.take(LISTED_OBJECTS).collect();
        self.report.send_modify(|report| report.refused_endpoints = slices);
    }

    /// How the folder of manifests fares.
    pub fn set_folder(&self, mut folder: FolderReport, up: bool) {
        self.metrics.set_manifest_problems(folder.problem_count);
        for kind in Kind::ROUTED {
            self.metrics.set_source_up(self.purpose, kind, up);
        }
        folder.problems.truncate(LISTED_PROBLEMS);
        self.report.send_modify(|report| report.manifests = Some(folder));
    }

    /// Changes one watch; gives what it was.
    fn change(
        &self,
        kind: Kind,
        scope: &Scope,
        change: impl FnOnce(&mut WatchReport),
    ) -> Option<WatchReport> {
        let mut before = None;
        let mut up = true;
        self.report.send_modify(|report| {
            if let Some(watch) = report.watches.iter_mut().find(|w| w.kind == kind && w.scope == *scope) {
                before = Some(watch.clone());
                change(watch);
            }
            let mut of_kind = report.watches.iter().filter(|watch| watch.kind == kind);
            up = of_kind.all(|watch| watch.state == WatchState::Live);
        });
        self.metrics.set_source_up(self.purpose, kind, up);
        before
    }
}

fn as_text<S: serde::Serializer>(scope: &Scope, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(scope)
}
