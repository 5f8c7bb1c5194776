//! Which programs of Krypton are measured.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Name of the gateway's program.
pub const GATEWAY: &str = "krypton-gateway";

/// Name of the controller's program.
pub const CONTROLLER: &str = "krypton-controller";

/// Where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The gateway.
    pub gateway: PathBuf,
    /// The controller.
    pub controller: PathBuf,
}

// === impl Programs ===

impl Programs {
    /// Both in one folder, as cargo builds them.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { gateway: folder.join(GATEWAY), controller: folder.join(CONTROLLER) }
    }

    /// The one of them that is not there, or no program.
    #[must_use]
    pub fn missing(&self) -> Option<&Path> {
        let is_program = |path: &Path| {
            path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        };
        [&self.gateway, &self.controller].into_iter().find(|path| !is_program(path)).map(PathBuf::as_path)
    }
}
