//! What all files together say: pure.
//!
//! Owns, for each file, the objects that last were good. A file with a problem adds and changes what is good in
//! it and removes nothing, so that a mistake never takes an agent away.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::parse::{ManifestObject, Parsed, Position, Problem};
use crate::index::{AgentObject, ServiceObject, SliceObject};
use crate::object::{Kind, ObjectId};
use crate::source::FileProblem;

/// Every file, in the order of paths.
#[derive(Debug, Default)]
pub(super) struct Library {
    files: BTreeMap<PathBuf, File>,
}

#[derive(Debug, Default)]
struct File {
    objects: BTreeMap<(Kind, ObjectId), (Position, ManifestObject)>,
    problems: Vec<Problem>,
}

/// The objects in use, and what is wrong.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Resolved {
    pub(super) agents: Vec<AgentObject>,
    pub(super) slices: Vec<SliceObject>,
    pub(super) services: Vec<ServiceObject>,
    pub(super) problems: Vec<FileProblem>,
}

// === impl Library ===

impl Library {
    /// The file at `path` now reads as `parsed`.
    pub(super) fn set(&mut self, path: &Path, parsed: Parsed) {
        let file = self.files.entry(path.to_owned()).or_default();
        file.problems = parsed.problems;
        if parsed.broken {
            return;
        }
        let mut objects = BTreeMap::new();
        for (position, object) in parsed.objects {
            match objects.entry(object.id()) {
                Entry::Vacant(entry) => {
                    entry.insert((position, object));
                }
                Entry::Occupied(entry) => {
                    let (kind, id) = entry.key();
                    let reason = format!("{kind} {id} stands in this file twice; the first one is used");
                    file.problems.push(Problem { position, reason });
                }
            }
        }
        if file.problems.is_empty() {
            file.objects = objects;
        } else {
            file.objects.extend(objects);
        }
    }

    /// Removes the files for which `is_gone`; whether there were any.
    pub(super) fn remove_if(&mut self, is_gone: impl Fn(&Path) -> bool) -> bool {
        let before = self.files.len();
        self.files.retain(|path, _| !is_gone(path));
        self.files.len() != before
    }

    /// How many files there are.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// The objects in use. Of an object that stands in two files, the one in the first file by path counts.
    pub(super) fn resolve(&self) -> Resolved {
        let mut resolved = Resolved::default();
        let mut owners: BTreeMap<&(Kind, ObjectId), &Path> = BTreeMap::new();
        for (path, file) in &self.files {
            let own = file.problems.iter().map(|p| file_problem(path, p.position, p.reason.clone()));
            resolved.problems.extend(own);
            for (id, (position, object)) in &file.objects {
                if let Some(owner) = owners.get(id) {
                    let reason =
                        format!("{} {} stands in {} too, which is used", id.0, id.1, owner.display());
                    resolved.problems.push(file_problem(path, *position, reason));
                    continue;
                }
                owners.insert(id, path);
                match object.clone() {
                    ManifestObject::Agent(agent) => resolved.agents.push(agent),
                    ManifestObject::EndpointSlice(slice) => resolved.slices.push(slice),
                    ManifestObject::Service(service) => resolved.services.push(service),
                }
            }
        }
        resolved
    }
}

// === impl Resolved ===

impl Resolved {
    /// Problems that are not in `known`, in order.
    pub(super) fn new_problems(&self, known: &[FileProblem]) -> Vec<FileProblem> {
        let known: BTreeSet<_> = known.iter().map(|p| (&p.file, p.document, p.line, &p.reason)).collect();
        let is_new = |p: &&FileProblem| !known.contains(&(&p.file, p.document, p.line, &p.reason));
        self.problems.iter().filter(is_new).cloned().collect()
    }
}

fn file_problem(path: &Path, position: Position, reason: String) -> FileProblem {
    let Position { document, line, column } = position;
    FileProblem { file: path.to_owned(), document, line, column, reason }
}

#[cfg(test)]
mod tests;
