//! `kubectl`, as a person would use it. The tour changes and reads the cluster through it alone, so that every step can
//! be typed.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use tokio::io::AsyncWriteExt as _;

use crate::process::leashed;
use crate::screen::Screen;
use crate::wait::within;

/// Where manifests are looked for: the checkout, as in every command that is shown.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// How long `kubectl wait` waits: less than we wait for it, so that what it says last is heard.
pub(crate) const PATIENCE: &str = "--timeout=50s";

/// The tool, and the cluster that it speaks to.
#[derive(Debug)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// What it keeps of the cluster.
    cache: PathBuf,
}

// === impl Kubectl ===

impl Kubectl {
    /// The tool at `program`, for the cluster of `kubeconfig`; what it keeps goes to the folder `cache`.
    pub(crate) fn new(program: PathBuf, kubeconfig: PathBuf, cache: PathBuf) -> Self {
        Self { program, kubeconfig, cache }
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs it and gives what it prints.
    ///
    /// # Errors
    /// It fails, with what it says, or takes too long.
    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.run_with(arguments, "").await
    }

    /// As [`Kubectl::run`], with something to read.
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> anyhow::Result<String> {
        let mut kubectl = leashed(&self.program, arguments)?;
        kubectl
            .current_dir(CHECKOUT)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", &self.cache)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let output = async {
            let mut kubectl = kubectl.spawn()?;
            let mut stdin = kubectl.stdin.take().context("its standard input was asked for")?;
            stdin.write_all(input.as_bytes()).await?;
            drop(stdin);
            anyhow::Ok(kubectl.wait_with_output().await?)
        };
        let command = typed(arguments);
        let output = within(&command, output).await?;
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
        String::from_utf8(output.stdout).context(command)
    }

    /// Shows the command, runs it, and shows what it prints; gives that too.
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub(crate) async fn show(&self, screen: &Screen, arguments: &[&str]) -> anyhow::Result<String> {
        screen.command(typed(arguments))?;
        let output = self.run(arguments).await?;
        for line in output.lines() {
            screen.say(line.trim_end())?;
        }
        Ok(output)
    }
}

/// The command as a person types it, in a shell.
fn typed(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|argument| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@".contains(c);
        if argument.chars().all(plain) { (*argument).to_owned() } else { format!("'{argument}'") }
    });
    std::iter::once("kubectl".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_so_that_a_shell_takes_them() {
        assert_eq!(typed(&["apply", "-f", "examples/"]), "kubectl apply -f examples/");
        let patch = typed(&["patch", "agent/a", "--type=merge", "-p", r#"{"spec":{"replicas":null}}"#]);
        assert_eq!(patch, r#"kubectl patch agent/a --type=merge -p '{"spec":{"replicas":null}}'"#);
    }
}
