//! The kernel's watch over a folder: gives a sign when something in it may have changed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

/// A watch that is kept up.
pub(super) struct FolderWatch {
    folder: PathBuf,
    wake: mpsc::Sender<()>,
    /// The watch, and which folder it was when the watch began.
    active: Option<(RecommendedWatcher, (u64, u64))>,
    /// Whether the log knows that there is no watch.
    told: bool,
}

// === impl FolderWatch ===

impl FolderWatch {
    /// A watch over `folder`, not begun yet, that gives its signs to `wake`.
    pub(super) fn new(folder: PathBuf, wake: mpsc::Sender<()>) -> Self {
        Self { folder, wake, active: None, told: false }
    }

    /// Begins the watch, and begins it anew where the folder was replaced by another.
    pub(super) fn renew(&mut self) {
        let Ok(metadata) = fs::metadata(&self.folder) else { return };
        let folder = (metadata.dev(), metadata.ino());
        if self.active.as_ref().is_some_and(|(_, watched)| *watched == folder) {
            return;
        }
        match self.begin() {
            Ok(watcher) => {
                self.active = Some((watcher, folder));
                self.told = false;
            }
            Err(error) => {
                self.active = None;
                if !std::mem::replace(&mut self.told, true) {
                    log::warn!(folder:% = self.folder.display(), error:% = error;
                        "Folder cannot be watched; it is looked at every 2 s");
                }
            }
        }
    }

    fn begin(&self) -> notify::Result<RecommendedWatcher> {
        let wake = self.wake.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| is_change(event.kind)) {
                wake.try_send(()).ok();
            }
        })?;
        watcher.watch(&self.folder, RecursiveMode::Recursive)?;
        Ok(watcher)
    }
}

/// Whether an event can mean a change. Opening and reading are our own doing, and would never end.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}
