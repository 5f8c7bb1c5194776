//! A file of results, read.
//!
//! Owns what is said of a file that is none. Never writes.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::result::{RunResult, SCHEMA};

/// Far above a run of everything, and below what would trouble the machine.
const LONGEST: u64 = 512 * 1024 * 1024;

/// Reads the results of a run.
///
/// # Errors
/// When it is not there, not JSON, of another form, or holds no sample: a sentence with the path.
pub(super) fn read(path: &Path) -> anyhow::Result<RunResult> {
    let shown = path.display();
    let file = fs::File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).with_context(|| format!("cannot read {shown}"))?;
    ensure!(text.len() as u64 <= LONGEST, "{shown} is longer than 512 MiB, so it is not a file of results");
    let value: serde_json::Value =
        serde_json::from_slice(&text).with_context(|| format!("{shown} is not JSON"))?;
    // Looked at first, so that a newer form is told from a broken one.
    let Some(form) = value.get("schema").and_then(serde_json::Value::as_u64) else {
        bail!("{shown} is JSON, but not a file of results: it has no `schema`");
    };
    ensure!(
        form <= u64::from(SCHEMA),
        "{shown} is of form {form}, and this program knows forms up to {SCHEMA}: take the one that wrote it"
    );
    let result =
        RunResult::deserialize(&value).with_context(|| format!("{shown} is not a file of results"))?;
    ensure!(
        result.scenarios.iter().any(|scenario| !scenario.samples.is_empty()),
        "{shown} holds no sample: the run ended before its first measurement"
    );
    Ok(result)
}
