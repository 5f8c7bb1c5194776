//! A run as a page, as a summary, and beside another run.
//!
//! Owns what a reader sees. Never measures, and never decides what counts: that is in [`stats`](crate::stats).
//!
//! 1. `read` takes the file of a run, or says in a sentence why it cannot.
//! 2. `table` makes rows and columns of a scenario's samples; `format` writes figures.
//! 3. `page` and `plot` make `report.html`: one file that needs no other, no script and no network. `summary` makes
//!    `summary.md`.
//! 4. `compare` puts two runs side by side.

mod compare;
mod format;
mod page;
mod plot;
mod read;
mod summary;
mod table;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use crate::result::RunResult;

/// What `krypton-bench report` takes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The results.json of a run
    #[arg(value_name = "RESULTS")]
    pub results: PathBuf,

    /// Where report.html and summary.md go [default: beside the results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// What `krypton-bench compare` takes.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// The results.json of the run before
    #[arg(value_name = "A")]
    pub before: PathBuf,

    /// The results.json of the run after
    #[arg(value_name = "B")]
    pub after: PathBuf,

    /// Exit with 1 if the primary figure of the gateway is worse by more than this, beyond the noise, in a scenario
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub fail_on_regression: Option<f64>,
}

/// Makes the page and the summary of a run anew, and prints where they are.
///
/// # Errors
/// When the results cannot be read, or the files cannot be written.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let result = read::read(&args.results)?;
    let beside = args.results.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = args.out.as_deref().or(beside).unwrap_or(Path::new("."));
    for file in write(&result, folder)? {
        println!("{}", file.display());
    }
    Ok(())
}

/// Prints what changed between two runs.
///
/// # Errors
/// When one of them cannot be read; with [`CompareArgs::fail_on_regression`] also when something got worse.
pub fn compare_main(args: &CompareArgs) -> anyhow::Result<()> {
    let (before, after) = (read::read(&args.before)?, read::read(&args.after)?);
    let comparison = compare::Comparison::of(&before, &after);
    print!("{}", comparison.text());
    let Some(percent) = args.fail_on_regression else { return Ok(()) };
    ensure!(
        comparison.judged() > 0,
        "the two runs have no primary figure of the gateway that could be compared"
    );
    let worse = comparison.regressions(percent);
    if worse.is_empty() {
        return Ok(());
    }
    bail!("worse by more than {percent} %, beyond the noise: {}", worse.join("; "))
}

/// Writes `report.html` and `summary.md` into a folder, which is made if need be. Says where they are.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write(result: &RunResult, folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let files = [("report.html", page::page(result).into_string()), ("summary.md", summary::summary(result))];
    let write = |(name, text)| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    };
    files.into_iter().map(write).collect()
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.trim_end_matches('%').trim().parse::<f64>().ok();
    percent
        .filter(|percent| (0.0..=1000.0).contains(percent))
        .ok_or_else(|| "not a percentage from 0 to 1000".to_owned())
}
