//! A certificate from files, followed when they change.
//!
//! The files are compared by content every few seconds: a mounted Secret changes by a symbolic link two folders up,
//! which no watch over the files would see.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::time::MissedTickBehavior;

use super::{CERTIFICATE, Certificate, KEY, Pair, PairError, UnixSeconds};

/// How often the files are looked at.
pub const RELOAD: Duration = Duration::from_secs(2);

/// Bytes of one file: what a Secret holds.
const MAX_FILE: u64 = 1 << 20;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// One cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// What the folder holds is no certificate with its key.
    #[error("{0}: {1}")]
    Pair(PathBuf, PairError),
}

/// A folder with `tls.crt` and `tls.key`.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    certificate: Certificate,
}

// === impl Folder ===

impl Folder {
    /// Reads the files in `path` into `certificate`.
    ///
    /// # Errors
    /// Files that are missing or do not fit each other.
    pub async fn load(path: &Path, certificate: Certificate) -> Result<Self, FolderError> {
        let mut folder = Self { path: path.to_owned(), certificate };
        folder.reload().await?;
        folder.certificate.tell_expiry(UnixSeconds::now());
        Ok(folder)
    }

    /// What was read.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Looks at the files every `period`, for ever.
    pub async fn follow(mut self, period: Duration) {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.reload().await {
                self.certificate.tell_problem(&error.to_string());
            }
            self.certificate.tell_expiry(UnixSeconds::now());
        }
    }

    /// Takes the files up if they changed; whether they did.
    pub(super) async fn reload(&mut self) -> Result<bool, FolderError> {
        let certificate = read_file(&self.path, CERTIFICATE).await?;
        let pair = Pair { certificate, key: read_file(&self.path, KEY).await? };
        self.certificate.take(pair).map_err(|error| FolderError::Pair(self.path.clone(), error))
    }
}

async fn read_file(folder: &Path, name: &str) -> Result<Vec<u8>, FolderError> {
    let path = folder.join(name);
    let mut content = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(&path).await?;
        file.take(MAX_FILE).read_to_end(&mut content).await
    };
    match read.await {
        Ok(_) => Ok(content),
        Err(error) => Err(FolderError::Read(path, error)),
    }
}
