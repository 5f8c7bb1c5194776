//! The manifests of `examples/local/`, and the small changes that the tour makes to its copies of them.
//!
//! Changes are made to the text, as a person with an editor makes them, so that comments stay: the copies are for
//! reading too.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// `writer`: two pods.
pub(crate) const WRITER: &str = include_str!("../../local/writer.yaml");
/// `tools`: an MCP server.
pub(crate) const TOOLS: &str = include_str!("../../local/tools.yaml");
/// The pod of `echo-agent`, which is not there yet.
pub(crate) const ECHO_ENDPOINTS: &str = include_str!("../../local/echo-endpoints.yaml");
/// `echo-agent`, the very file that one applies to a cluster.
pub(crate) const ECHO_AGENT: &str = include_str!("../../echo-agent.yaml");

/// A file of several objects.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    documents: Vec<String>,
}

/// The folder that the controller watches.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

// === impl Manifest ===

impl Manifest {
    pub(crate) fn new(text: &str) -> Self {
        Self { documents: text.split("---\n").map(str::to_owned).collect() }
    }

    /// Gives `field` of the object called `name` another value. The field stands once in it, on a line of its own.
    ///
    /// # Errors
    /// There is no such object or field, or several.
    pub(crate) fn set(&mut self, name: &str, field: &str, value: &str) -> anyhow::Result<()> {
        let position = self.position(name)?;
        let document = &mut self.documents[position];
        let is_field =
            |line: &&str| line.trim_start().trim_start_matches("- ").starts_with(&format!("{field}: "));
        let lines: Vec<&str> = document.lines().filter(is_field).collect();
        ensure!(lines.len() == 1, "{name} has {} fields called {field}", lines.len());
        let (indent, _) = lines[0].split_once(field).context("the line holds the field")?;
        *document = document.replacen(lines[0], &format!("{indent}{field}: {value}"), 1);
        Ok(())
    }

    /// Calls the object `old` and its pod `new`.
    ///
    /// # Errors
    /// There is no such object, or several.
    pub(crate) fn rename(&mut self, old: &str, new: &str) -> anyhow::Result<()> {
        let position = self.position(old)?;
        let document = &mut self.documents[position];
        *document = document.replace(old, new);
        Ok(())
    }

    /// Takes the object out.
    ///
    /// # Errors
    /// There is no such object, or several.
    pub(crate) fn remove(&mut self, name: &str) -> anyhow::Result<()> {
        self.documents.remove(self.position(name)?);
        Ok(())
    }

    pub(crate) fn text(&self) -> String {
        self.documents.join("---\n")
    }

    fn position(&self, name: &str) -> anyhow::Result<usize> {
        let head = format!("\nmetadata:\n  name: {name}\n");
        let found: Vec<usize> =
            (0..self.documents.len()).filter(|n| self.documents[*n].contains(&head)).collect();
        ensure!(found.len() == 1, "{} objects called {name}", found.len());
        Ok(found[0])
    }
}

// === impl Folder ===

impl Folder {
    /// Makes the folder.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn new(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a file there, or another in its place, at once: a reader sees the old or the new, and never a half.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn put(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let (path, hidden) = (self.path.join(file), self.path.join(format!(".{file}")));
        fs::write(&hidden, text)
            .and_then(|()| fs::rename(&hidden, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manifest_of_the_example_is_on_the_stage() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../local");
        let mut texts: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .map(|path| fs::read_to_string(path).unwrap())
            .collect();
        texts.sort();
        let mut known = [WRITER, TOOLS, ECHO_ENDPOINTS];
        known.sort_unstable();
        assert_eq!(texts, known);
    }

    #[test]
    fn one_field_of_one_object_changes_and_nothing_else() {
        let mut manifest = Manifest::new(WRITER);
        assert_eq!(manifest.text(), WRITER);
        manifest.set("writer-2", "port", "1").unwrap();
        manifest.set("writer-2", "ready", "false").unwrap();
        manifest.set("writer-2", "terminating", "true").unwrap();
        let text = manifest.text();
        let changed: Vec<_> = text.lines().zip(WRITER.lines()).filter(|(new, old)| new != old).collect();
        assert_eq!(
            changed,
            [
                ("    port: 1", "    port: 9102"),
                ("      ready: false", "      ready: true"),
                ("      terminating: true", "      terminating: false"),
            ]
        );
    }

    #[test]
    fn objects_leave_and_change_their_name() {
        let mut manifest = Manifest::new(WRITER);
        manifest.rename("writer-2", "writer-3").unwrap();
        assert_eq!(manifest.text(), WRITER.replace("writer-2", "writer-3"));
        manifest.remove("writer-3").unwrap();
        assert!(WRITER.starts_with(&manifest.text()) && !manifest.text().contains("writer-3"));
    }

    #[test]
    fn what_is_not_there_is_named() {
        let mut manifest = Manifest::new(WRITER);
        let error = manifest.set("reader", "port", "1").unwrap_err();
        assert_eq!(error.to_string(), "0 objects called reader");
        let error = manifest.set("writer-1", "colour", "red").unwrap_err();
        assert_eq!(error.to_string(), "writer-1 has 0 fields called colour");
        let error = manifest.set("writer-1", "name", "x").unwrap_err();
        assert_eq!(error.to_string(), "writer-1 has 3 fields called name");
    }

    #[test]
    fn a_file_is_put_in_one_piece() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::new(parent.path().join("manifests")).unwrap();
        folder.put("a.yaml", "old").unwrap();
        folder.put("a.yaml", "new").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("a.yaml")).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing hidden is left");
    }
}
