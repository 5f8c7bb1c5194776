//! The last table on disk, for a gateway that starts while no controller can be reached.
//!
//! Owns: the file's format and when it is written. Never decides whether an old table is good enough: whoever
//! loads it marks the table as [`Freshness::FromDisk`].
//!
//! 1. [`load`] reads the file once, at the start. A file that is not ours, too new or damaged is refused whole; a
//!    route in it that this release cannot read is left out.
//! 2. [`SnapshotFile::run`] looks once a second whether a live table has changed, and if so writes all of it
//!    beside the file, flushes it to the disk and renames it over the old one: a reader sees the one or the other.
//! 3. A disk that is full or read-only costs a warning and a longer pause, nothing else.
//!
//! Layout, integers little-endian: magic (8 bytes), format (4), seconds since 1970 when a
//! controller last stood behind the table (8), then
//! each route as a length-delimited `RouteResource`, then the CRC-32 of all before it (4).

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use krypton_discovery::{Rejected, VersionedRoute, wire};
use prometheus_client::metrics::counter::Counter;
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::route_table::{Freshness, RouteTableHandle};

const MAGIC: [u8; 8] = *b"KRYPTONT";

/// Raised when an older release can no longer read what is written. New fields of a route do not raise it.
const FORMAT: u32 = 1;

/// Magic, format and time.
const HEADER_BYTES: usize = 8 + 4 + 8;

/// The checksum.
const TRAILER_BYTES: usize = 4;

/// The largest file that is read or written: some million endpoints. Bounds what a wrong path can cost.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// How often the table is looked at, and so how often the file is written at most.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// The longest pause after failed writes.
const MAX_PAUSE: Duration = Duration::from_mins(1);

/// What was in the file.
#[derive(Debug)]
pub struct StoredTable {
    /// The routes.
    pub routes: Vec<VersionedRoute>,
    /// Routes that this release cannot read.
    pub rejected: Vec<Rejected>,
    /// How long ago a controller last stood behind it, zero if the clock went back since.
    pub age: Duration,
}

/// Why the file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFileError {
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The path names a folder or a device.
    #[error("not a regular file")]
    NotAFile,
    /// Larger than any table that is written.
    #[error("{0} bytes, at most {MAX_FILE_BYTES}")]
    TooLarge(u64),
    /// It does not begin as our files do.
    #[error("not a route table of this program")]
    Foreign,
    /// A later release wrote it.
    #[error("written in format {0}, this release reads {FORMAT}")]
    TooNew(u32),
    /// It was cut or changed.
    #[error("checksum does not match: the file is damaged")]
    Checksum,
    /// The checksum is right and yet it cannot be read.
    #[error("route {index}: {reason}")]
    Route {
        /// Its position in the file, from 0.
        index: usize,
        /// What is wrong with it.
        reason: prost::DecodeError,
    },
}

/// Keeps the file up to date.
pub struct SnapshotFile {
    path: PathBuf,
    table: RouteTableHandle,
    /// [`RouteTableHandle::changes`] of the table in the file, `None` before the first write.
    written: Option<u64>,
    /// How many writes in a row have failed.
    failures: u32,
    /// How many have failed at all.
    failed: Counter,
}

/// Reads the file, `None` where there is none.
///
/// # Errors
/// See [`SnapshotFileError`]. Whatever it is, a start without the file is the right answer.
pub fn load(path: &Path) -> Result<Option<StoredTable>, SnapshotFileError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    if !metadata.is_file() {
        return Err(SnapshotFileError::NotAFile);
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(SnapshotFileError::TooLarge(metadata.len()));
    }
    let mut bytes = Vec::new();
    // Bounded here too: what grows while it is read is cut, and fails its checksum.
    File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    decode(&bytes, SystemTime::now()).map(Some)
}

fn decode(bytes: &[u8], now: SystemTime) -> Result<StoredTable, SnapshotFileError> {
    // The format is told before the checksum is tried: a later one may end differently.
    let (magic, rest) = bytes.split_first_chunk().ok_or(SnapshotFileError::Foreign)?;
    if *magic != MAGIC {
        return Err(SnapshotFileError::Foreign);
    }
    let (format, rest) = rest.split_first_chunk().ok_or(SnapshotFileError::Checksum)?;
    let format = u32::from_le_bytes(*format);
    if format > FORMAT {
        return Err(SnapshotFileError::TooNew(format));
    }
    let (body, checksum) = rest.split_last_chunk().ok_or(SnapshotFileError::Checksum)?;
    if crc32fast::hash(&bytes[..bytes.len() - TRAILER_BYTES]) != u32::from_le_bytes(*checksum) {
        return Err(SnapshotFileError::Checksum);
    }
    let (seconds, mut body) = body.split_first_chunk().ok_or(SnapshotFileError::Checksum)?;
    let written = UNIX_EPOCH.checked_add(Duration::from_secs(u64::from_le_bytes(*seconds)));
    let age = written.and_then(|written| now.duration_since(written).ok()).unwrap_or_default();

    let mut table = StoredTable { routes: Vec::new(), rejected: Vec::new(), age };
    for index in 0.. {
        if body.is_empty() {
            break;
        }
        let resource = wire::RouteResource::decode_length_delimited(&mut body)
            .map_err(|reason| SnapshotFileError::Route { index, reason })?;
        match VersionedRoute::try_from(resource) {
            Ok(route) => table.routes.push(route),
            Err(rejected) => table.rejected.push(rejected),
        }
    }
    Ok(table)
}

/// When a controller last stood behind the table.
fn as_of(table: &RouteTableHandle) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(table.age(Instant::now()).unwrap_or_default()).unwrap_or(now)
}

/// Writes the table to `path`, all or nothing.
fn save(path: &Path, table: &RouteTableHandle, as_of: SystemTime) -> Result<(), SnapshotFileError> {
    let temporary = temporary_path(path);
    // What a crash left behind. `create_new` follows no link that somebody else put there.
    fs::remove_file(&temporary).ok();
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let saved = encode(file, table, as_of).and_then(|file| {
        file.sync_all()?;
        Ok(fs::rename(&temporary, path)?)
    });
    if saved.is_err() {
        fs::remove_file(&temporary).ok();
    }
    saved?;
    // The rename itself is only on the disk once the folder is.
    Ok(File::open(folder(path))?.sync_all()?)
}

fn encode(file: File, table: &RouteTableHandle, as_of: SystemTime) -> Result<File, SnapshotFileError> {
    let mut out = BufWriter::new(file);
    let mut checksum = crc32fast::Hasher::new();
    let mut total = HEADER_BYTES + TRAILER_BYTES;
    let mut put = |bytes: &[u8]| {
        checksum.update(bytes);
        out.write_all(bytes)
    };
    put(&MAGIC)?;
    put(&FORMAT.to_le_bytes())?;
    put(&as_of.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_le_bytes())?;
    for route in table.iter() {
        let resource = wire::RouteResource::from(route.load().resource()).encode_length_delimited_to_vec();
        total += resource.len();
        if total as u64 > MAX_FILE_BYTES {
            return Err(SnapshotFileError::TooLarge(total as u64));
        }
        put(&resource)?;
    }
    out.write_all(&checksum.finalize().to_le_bytes())?;
    Ok(out.into_inner().map_err(io::IntoInnerError::into_error)?)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Beside the file, since a rename does not cross file systems.
fn temporary_path(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    folder(path).join(name)
}

// === impl SnapshotFile ===

impl SnapshotFile {
    /// Keeps `table` in the file `path`, and counts failed writes in `failed`.
    pub fn new(path: PathBuf, table: RouteTableHandle, failed: Counter) -> Self {
        Self { path, table, written: None, failures: 0, failed }
    }

    /// Writes until `shutdown`, and then once more what has changed.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(self.pause())).await.is_some() {
            self.save_if_changed().await;
        }
        self.save_if_changed().await;
    }

    /// How long to wait before the next look.
    fn pause(&self) -> Duration {
        WRITE_INTERVAL.saturating_mul(1 << self.failures.min(10)).min(MAX_PAUSE)
    }

    /// Returns whether it wrote.
    async fn save_if_changed(&mut self) -> bool {
        let changes = self.table.changes();
        // Others are partial, or came from the file.
        let whole = matches!(self.table.freshness(), Freshness::Live | Freshness::Lost { .. });
        if !whole || self.written == Some(changes) {
            return false;
        }
        let (path, table, started) = (self.path.clone(), self.table.clone(), Instant::now());
        let written = tokio::task::spawn_blocking(move || save(&path, &table, as_of(&table))).await;
        match written.unwrap_or_else(|panicked| Err(io::Error::other(panicked).into())) {
            Ok(()) => {
                if self.failures > 0 {
                    log::info!(path:% = self.path.display(); "Snapshot file is written again");
                }
                log::debug!(agents = self.table.len(), took:? = started.elapsed(); "Wrote the snapshot file");
                (self.written, self.failures) = (Some(changes), 0);
                true
            }
            Err(error) => {
                if self.failures == 0 {
                    log::warn!(path:% = self.path.display(), error:% = error;
                        "Cannot write the snapshot file; a restart without a controller would find an old table");
                }
                self.failures += 1;
                self.failed.inc();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
