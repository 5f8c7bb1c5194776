//! Agents and their endpoints from a folder: the very manifests one would apply to a cluster.
//!
//! Owns the watch over the folder. Never writes to it. A broken file keeps the last good objects that came from
//! it, and is named in the log and in the report.
//!
//! 1. Any change in the folder, seen by the kernel or at the next look every [`LOOK_EVERY`], starts a scan, once
//!    it has been quiet for [`QUIET`].
//! 2. The scan reads what has changed; the library tells what all files together say.
//! 3. Each kind that differs goes to the index as one complete list: endpoints first, so that a new agent can be
//!    called as soon as it is known.

mod library;
mod parse;
mod scan;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use krypton_discovery::EndpointPolicy;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::report::FolderReport;
use super::{Change, SourceEvent, Sources};
use crate::object::Scope;
use library::Resolved;
use scan::Scanner;
use watch::FolderWatch;

/// How long the folder has to be quiet before it is read: editors and `cp -r` make many changes.
const QUIET: Duration = Duration::from_millis(50);

/// The longest that changes are waited out.
const MAX_DEBOUNCE: Duration = Duration::from_millis(500);

/// How often the folder is looked at without a sign from the kernel: network file systems give none.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why the folder cannot be a source.
#[derive(Debug, thiserror::Error)]
pub enum ManifestsError {
    /// It cannot be looked at.
    #[error("{}", .folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// It is not a folder.
    #[error("{}: not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// The thread that reads it ended.
    #[error("reading the folder panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// A folder of manifests.
#[derive(Debug)]
pub struct Manifests {
    folder: PathBuf,
    scanner: Scanner,
    sent: Option<Resolved>,
    events: mpsc::Sender<SourceEvent>,
    sources: Sources,
}

// === impl Manifests ===

impl Manifests {
    /// A source that reads `folder`.
    ///
    /// # Errors
    /// When it is not there, or not a folder.
    pub fn open(
        folder: &Path,
        policy: EndpointPolicy,
        events: mpsc::Sender<SourceEvent>,
        sources: Sources,
    ) -> Result<Self, ManifestsError> {
        let unreadable = |error| ManifestsError::Unreadable { folder: folder.to_owned(), error };
        if !std::fs::metadata(folder).map_err(unreadable)?.is_dir() {
            return Err(ManifestsError::NotAFolder(folder.to_owned()));
        }
        std::fs::read_dir(folder).map_err(unreadable)?;
        let scanner = Scanner::new(folder.to_owned(), policy);
        Ok(Self { folder: folder.to_owned(), scanner, sent: None, events, sources })
    }

    /// Follows the folder until the index is gone.
    ///
    /// # Errors
    /// When the thread that reads it panics.
    pub async fn run(mut self) -> Result<(), ManifestsError> {
        // One sign is as good as many.
        let (wake, mut woken) = mpsc::channel(1);
        let mut watch = FolderWatch::new(self.folder.clone(), wake);
        loop {
            let mut scanner = self.scanner;
            let read = tokio::task::spawn_blocking(move || {
                // Before the scan, so that nothing falls between the two.
                watch.renew();
                let changed = scanner.scan();
                (watch, scanner, changed)
            });
            let changed;
            (watch, self.scanner, changed) = read.await.map_err(ManifestsError::Panicked)?;
            if (changed || self.sent.is_none()) && self.send().await.is_err() {
                return Ok(());
            }
            if let Ok(Some(())) = timeout(LOOK_EVERY, woken.recv()).await {
                let by = Instant::now() + MAX_DEBOUNCE;
                while Instant::now() < by && timeout(QUIET, woken.recv()).await.is_ok() {}
            }
        }
    }

    /// Sends what differs from what was sent before.
    async fn send(&mut self) -> Result<(), mpsc::error::SendError<SourceEvent>> {
        let new = self.scanner.library().resolve();
        self.report(&new);
        let old = self.sent.as_ref();
        if old.is_none_or(|old| old.slices != new.slices) {
            self.events.send(SourceEvent::EndpointSlices(restarted(&new.slices))).await?;
        }
        if old.is_none_or(|old| old.services != new.services) {
            self.events.send(SourceEvent::Services(restarted(&new.services))).await?;
        }
        if old.is_none_or(|old| old.agents != new.agents) {
            self.events.send(SourceEvent::Agents(restarted(&new.agents))).await?;
        }
        self.sent = Some(new);
        Ok(())
    }

    fn report(&self, new: &Resolved) {
        let known = self.sent.as_ref().map_or(&[][..], |sent| &sent.problems);
        for problem in new.new_problems(known) {
            log::warn!(file:% = problem.file.display(), at = problem.at().as_str(),
                reason = problem.reason.as_str();
                "Manifest has a problem; the last good objects of the file stay");
        }
        if !known.is_empty() && new.problems.is_empty() {
            log::info!(folder:% = self.folder.display(); "All manifests are good again");
        }
        let report = FolderReport {
            folder: self.folder.clone(),
            files: self.scanner.library().len(),
            objects: new.agents.len() + new.slices.len() + new.services.len(),
            problem_count: new.problems.len(),
            problems: new.problems.clone(),
        };
        let up = new.problems.iter().all(|problem| problem.file != self.folder);
        self.sources.set_folder(report, up);
    }
}

fn restarted<T: Clone>(objects: &[T]) -> Change<T> {
    Change::Restarted { scope: Scope::AllNamespaces, objects: objects.to_vec(), refused: Vec::new() }
}

#[cfg(test)]
mod tests;
