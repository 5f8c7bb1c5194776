//! Programs of others that tests need, built once from their Go modules into a cache outside the checkout.
//!
//! Owns: the cache's place, one build at a time, progress, and that a build which was cut off is never taken for a whole
//! one. What is built, and from where, is said by [`crate::binaries`] and [`crate::tools`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, MissedTickBehavior};

/// Between two lines about a build that goes on.
const PROGRESS_PERIOD: Duration = Duration::from_secs(15);

/// What `go build` is told.
pub(crate) struct GoBuild<'a> {
    /// What progress is reported under.
    pub(crate) name: &'a str,
    /// The folder with the go.mod that names the package's module.
    pub(crate) module: &'a Path,
    /// The main package.
    pub(crate) package: &'a str,
    /// Of the linker.
    pub(crate) ldflags: &'a str,
}

// === impl GoBuild ===

impl GoBuild<'_> {
    /// Builds the program and puts it at `path`, whose folder exists.
    pub(crate) async fn to(&self, path: &Path) -> Result<()> {
        let unfinished = path.with_file_name(format!(".{}.unfinished", self.name));
        let mut go = Command::new("go");
        go.current_dir(self.module)
            // Pure Go: the same program whatever C library the machine has.
            .env("CGO_ENABLED", "0")
            .args(["build", "-v", "-mod=readonly", "-trimpath", "-ldflags", self.ldflags, "-o"])
            .arg(&unfinished)
            .arg(self.package)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = go.spawn().context("cannot run go")?;
        let stderr = child.stderr.take().context("go has no standard error")?;
        let last_words = show_progress(self.name, BufReader::new(stderr)).await?;
        if !child.wait().await?.success() {
            bail!("go build {} failed:\n{}", self.package, last_words.join("\n"));
        }
        fs::rename(&unfinished, path).with_context(|| format!("cannot put {} in place", path.display()))
    }
}

/// Whether Go is there.
pub(crate) fn can_build() -> bool {
    let go = std::process::Command::new("go").arg("version").stdout(Stdio::null()).status();
    go.is_ok_and(|status| status.success())
}

/// A folder of the cache, which need not exist.
pub(crate) fn cache(name: &str) -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => std::env::home_dir().context("HOME is not set")?.join(".cache"),
    };
    Ok(base.join("krypton").join(name))
}

/// Makes the folder and holds it for one build: a second run waits for the first one's instead of doing the same work
/// beside it.
pub(crate) fn lock(folder: &Path, what: &str) -> Result<File> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = File::create(folder.join(".lock"))?;
    if lock.try_lock().is_err() {
        eprintln!("Waiting for another build of {what} …");
        lock.lock()?;
    }
    Ok(lock)
}

/// The folder of a module of `module`'s go.mod, downloaded if it is not there.
pub(crate) async fn go_module(module: &Path, path: &str) -> Result<PathBuf> {
    let mut go = Command::new("go");
    let go = go.current_dir(module).args(["mod", "download", "-json", path]);
    let output = go.stdin(Stdio::null()).kill_on_drop(true).output().await.context("cannot run go")?;
    ensure!(
        output.status.success(),
        "go mod download {path}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(said["Dir"].as_str().with_context(|| format!("go does not say where {path} is"))?.into())
}

/// Says from time to time how far a build is; gives back the last lines that were not names of packages.
async fn show_progress(name: &str, output: impl AsyncBufReadExt + Unpin) -> Result<Vec<String>> {
    const LAST_WORDS: usize = 20;
    let began = Instant::now();
    let mut ticks = tokio::time::interval(PROGRESS_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lines = output.lines();
    let mut packages = 0;
    let mut last_words = Vec::new();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                None => break,
                // `go build -v` prints each package's path on a line of its own; what it says else has spaces.
                Some(line) if !line.contains(' ') => packages += 1,
                Some(line) => {
                    if last_words.len() == LAST_WORDS {
                        last_words.remove(0);
                    }
                    last_words.push(line);
                }
            },
            _ = ticks.tick() => eprintln!("  {name}: {packages} packages compiled, {} s", began.elapsed().as_secs()),
        }
    }
    eprintln!("  {name}: done, {packages} packages compiled, {} s", began.elapsed().as_secs());
    Ok(last_words)
}
