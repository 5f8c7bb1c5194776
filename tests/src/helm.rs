//! Helm, as a person would run it on the repository's chart.
//!
//! Owns: running the program with a home of its own, so that neither the settings nor the caches of whoever runs the
//! tests are read or written. Never talks to a cluster other than the one it is given.
//!
//! Values go in through standard input; what comes out is what Helm prints, and its errors are Helm's own words.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::cluster::Cluster;
use crate::tools::HELM;

/// The repository's chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/krypton");

/// Helm, with or without a cluster.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    /// Settings, caches and plugins: none.
    home: TempDir,
    kubeconfig: Option<PathBuf>,
}

/// An installation of the chart: its name and the namespace that it is in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Release<'a> {
    /// Its name.
    pub name: &'a str,
    /// Where it is.
    pub namespace: &'a str,
}

// === impl Helm ===

impl Helm {
    /// For what needs no cluster: [`Helm::template`] and [`Helm::lint`].
    ///
    /// # Errors
    /// When the program is not there.
    pub fn offline() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("krypton-helm-").tempdir()?;
        Ok(Self { program: HELM.find()?, home, kubeconfig: None })
    }

    /// On that cluster, as its administrator.
    ///
    /// # Errors
    /// When the program is not there.
    pub fn on(cluster: &Cluster) -> Result<Self> {
        Ok(Self { kubeconfig: Some(cluster.kubeconfig().to_owned()), ..Self::offline()? })
    }

    /// What the chart makes of those values, as YAML documents.
    ///
    /// # Errors
    /// When it refuses them.
    pub async fn template(&self, release: Release<'_>, values: &str) -> Result<String> {
        self.act("template", release, values, &[]).await
    }

    /// Helm's own look at the chart; a warning is an error.
    ///
    /// # Errors
    /// With all that it found.
    pub async fn lint(&self, values: &str) -> Result<String> {
        self.run(&["lint", "--strict", CHART, "--values=-"], values).await
    }

    /// Installs the chart; gives back what a person reads then. `args` are Helm's, e.g. `--wait`.
    ///
    /// # Errors
    /// When Helm or the API server refuses, or what `args` wait for does not come.
    pub async fn install(&self, release: Release<'_>, values: &str, args: &[&str]) -> Result<String> {
        self.act("install", release, values, args).await
    }

    /// Upgrades a release to the chart as it is now, or to other values.
    ///
    /// # Errors
    /// As [`Helm::install`].
    pub async fn upgrade(&self, release: Release<'_>, values: &str, args: &[&str]) -> Result<String> {
        self.act("upgrade", release, values, args).await
    }

    /// Goes back to the revision before.
    ///
    /// # Errors
    /// As [`Helm::install`].
    pub async fn rollback(&self, release: Release<'_>, args: &[&str]) -> Result<String> {
        let mut all = vec!["rollback", release.name, "--namespace", release.namespace];
        all.extend(args);
        self.run(&all, "").await
    }

    /// Takes a release away.
    ///
    /// # Errors
    /// As [`Helm::install`].
    pub async fn uninstall(&self, release: Release<'_>, args: &[&str]) -> Result<String> {
        let mut all = vec!["uninstall", release.name, "--namespace", release.namespace];
        all.extend(args);
        self.run(&all, "").await
    }

    async fn act(&self, verb: &str, release: Release<'_>, values: &str, args: &[&str]) -> Result<String> {
        let mut all = vec![verb, release.name, CHART, "--namespace", release.namespace, "--values=-"];
        all.extend(args);
        self.run(&all, values).await
    }

    /// Runs it with those arguments and `input`; gives back its standard output.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub async fn run(&self, args: &[&str], input: &str) -> Result<String> {
        let mut child = self.command(args).spawn().context("cannot run Helm")?;
        let mut stdin = child.stdin.take().context("Helm has no standard input")?;
        let written = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "helm {}: {}{}",
            args.join(" "),
            said(&output.stdout),
            said(&output.stderr)
        );
        // One that never reads it, as `uninstall`, may have closed it.
        if !input.is_empty() {
            written?;
        }
        Ok(said(&output.stdout))
    }

    fn command(&self, args: &[&str]) -> Command {
        // Never there: a cluster that somebody's KUBECONFIG names must not be asked.
        let nowhere: &Path = &self.home.path().join("no-kubeconfig");
        let mut helm = Command::new(&self.program);
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(home, self.home.path().join(home));
        }
        helm.env("KUBECONFIG", self.kubeconfig.as_deref().unwrap_or(nowhere))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        helm
    }
}
