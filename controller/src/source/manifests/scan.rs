//! Reads a folder: which files are there, and which of them have to be read again.
//!
//! Blocking; runs on a thread for that. Never waits for changes and never decides what counts.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use krypton_discovery::EndpointPolicy;

use super::library::Library;
use super::parse::{MAX_FILE_BYTES, Parsed, Position, parse};

/// Folders within folders that are entered.
const MAX_DEPTH: usize = 16;

/// Files that are read.
const MAX_FILES: usize = 20_000;

/// A file changed within this time before it was read may change again without its times telling: clocks of file
/// systems tick coarsely. It is read again until its times are older.
const SETTLED: Duration = Duration::from_secs(1);

/// A folder and what was last read of it.
#[derive(Debug)]
pub(super) struct Scanner {
    root: PathBuf,
    policy: EndpointPolicy,
    library: Library,
    stamps: BTreeMap<PathBuf, Stamp>,
}

/// Tells one content of a file from another without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    /// Moves with every write, and nobody can set it back.
    changed: Option<SystemTime>,
    settled: bool,
}

/// What a walk over the folder found.
#[derive(Default)]
struct Walk {
    files: BTreeSet<PathBuf>,
    /// Folders that could not be read, with the reason. What is known of their files stays.
    unreadable: BTreeMap<PathBuf, String>,
    entered: HashSet<(u64, u64)>,
}

// === impl Scanner ===

impl Scanner {
    pub(super) fn new(root: PathBuf, policy: EndpointPolicy) -> Self {
        Self { root, policy, library: Library::default(), stamps: BTreeMap::new() }
    }

    /// What the folder said at the last scan.
    pub(super) fn library(&self) -> &Library {
        &self.library
    }

    /// Reads what has changed; whether anything has.
    pub(super) fn scan(&mut self) -> bool {
        let mut walk = Walk::default();
        walk.enter(&self.root, 0);
        let mut changed = false;
        for path in &walk.files {
            changed |= self.read_if_changed(path);
        }
        for (folder, reason) in &walk.unreadable {
            self.library.set(folder, Parsed::broken(Position::default(), reason));
        }
        let unreadable = &walk.unreadable;
        let is_gone = |path: &Path| {
            !walk.files.contains(path) && !unreadable.keys().any(|folder| path.starts_with(folder))
        };
        self.stamps.retain(|path, _| !is_gone(path));
        let removed = self.library.remove_if(is_gone);
        changed || removed || !unreadable.is_empty()
    }

    fn read_if_changed(&mut self, path: &Path) -> bool {
        let stamp = fs::metadata(path).map(|metadata| Stamp::new(&metadata));
        if let (Ok(stamp), Some(known)) = (&stamp, self.stamps.get(path))
            && known.settled
            && stamp == known
        {
            return false;
        }
        let parsed = read(path).map_or_else(
            |error| Parsed::broken(Position::default(), &format!("the file cannot be read: {error}")),
            |bytes| parse(&bytes, path.extension().is_some_and(|e| e == "json"), &self.policy),
        );
        if !parsed.ignored.is_empty() && !self.stamps.contains_key(path) {
            let objects = parsed.ignored.join(", ");
            let objects = &objects[..objects.floor_char_boundary(512)];
            log::info!(file:% = path.display(), objects; "Manifests of kinds that are not needed are ignored");
        }
        self.library.set(path, parsed);
        match stamp {
            Ok(stamp) => self.stamps.insert(path.to_owned(), stamp),
            Err(_) => self.stamps.remove(path),
        };
        true
    }
}

// === impl Stamp ===

impl Stamp {
    fn new(metadata: &Metadata) -> Self {
        let changed = changed_at(metadata);
        let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            changed,
            settled: age.is_some_and(|age| age > SETTLED),
        }
    }
}

// === impl Walk ===

impl Walk {
    fn enter(&mut self, folder: &Path, depth: usize) {
        if let Err(error) = self.try_enter(folder, depth) {
            self.unreadable.insert(folder.to_owned(), format!("the folder cannot be read: {error}"));
        }
    }

    fn try_enter(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        let metadata = fs::metadata(folder)?;
        // A link may lead back up.
        if depth > MAX_DEPTH || !self.entered.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder)? {
            paths.push(entry?.path());
        }
        paths.sort_unstable();
        for path in paths.into_iter().filter(|path| is_wanted(path)) {
            // Followed: files in a mounted ConfigMap are links into a hidden folder that is swapped as a whole.
            let metadata = fs::metadata(&path);
            if metadata.as_ref().is_ok_and(Metadata::is_dir) {
                self.enter(&path, depth + 1);
            } else if is_manifest(&path) && metadata.map_or(true, |metadata| metadata.is_file()) {
                if self.files.len() >= MAX_FILES {
                    return Err(io::Error::other("more than 20,000 manifests"));
                }
                self.files.insert(path);
            }
        }
        Ok(())
    }
}

/// Hidden files are editors' and mounts' own business.
fn is_wanted(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with(['.', '#']))
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than is allowed, so that too large a file is told from one that just fits.
    fs::File::open(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn changed_at(metadata: &Metadata) -> Option<SystemTime> {
    let seconds = u64::try_from(metadata.ctime()).ok()?;
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
}

#[cfg(test)]
mod tests;
