//! What a tour plays on. Each stage starts its programs, has the tour that shows them, and takes all of it away again.

pub(crate) mod cluster;
mod ground;
pub(crate) mod local;

use std::path::PathBuf;

use tempfile::TempDir;

pub(crate) use self::ground::Ground;
use crate::process::Processes;
use crate::screen::Screen;

/// A stage, made but not started.
pub(crate) trait Stage: Sized {
    /// Starts everything and plays the tour of this stage.
    ///
    /// # Errors
    /// What does not start, or the first step that does not hold, by its name.
    async fn play(&mut self, screen: &Screen) -> anyhow::Result<()>;

    /// Says what to try while it is up.
    ///
    /// # Errors
    /// The screen is gone.
    fn suggest(&self, screen: &Screen) -> anyhow::Result<()>;

    /// The programs that run.
    fn processes(&mut self) -> &mut Processes;

    /// Ends all programs at once, and gives the folder, which is removed when dropped.
    async fn end(self) -> TempDir;

    /// Keeps the logs in the folder for a person to read; says where they are.
    fn keep_logs(folder: TempDir) -> PathBuf {
        ground::logs_of(&folder.keep())
    }
}
