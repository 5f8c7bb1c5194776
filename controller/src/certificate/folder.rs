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
pub(super) const MAX_FILE: u64 = 1 << 20;

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// One cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, std::io::Error),
    /// One is too large.
    #[error("{0}: larger than {MAX_FILE} bytes")]
    Large(PathBuf),
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
        let pair = read_pair(&self.path).await?;
        if let Ok(is_new) = self.certificate.take(pair) {
            return Ok(is_new);
        }
        // The files may have been swapped between the two.
        let pair = read_pair(&self.path).await?;
        self.certificate.take(pair).map_err(|error| FolderError::Pair(self.path.clone(), error))
    }
}

async fn read_pair(folder: &Path) -> Result<Pair, FolderError> {
    let certificate = read_file(folder, CERTIFICATE).await?;
    Ok(Pair { certificate, key: read_file(folder, KEY).await? })
}

async fn read_file(folder: &Path, name: &str) -> Result<Vec<u8>, FolderError> {
    let path = folder.join(name);
    let mut content = Vec::new();
    let read = async {
        let file = tokio::fs::File::open(&path).await?;
        file.take(MAX_FILE + 1).read_to_end(&mut content).await
    };
    match read.await {
        Ok(size) if size as u64 > MAX_FILE => Err(FolderError::Large(path)),
        Ok(_) => Ok(content),
        Err(error) => Err(FolderError::Read(path, error)),
    }
}
