//! The programs of a Kubernetes control plane and of a node: found, or built once from source.
//!
//! Owns: which programs, in which version. Nobody publishes these programs for every machine, but their sources come
//! through the ordinary Go module proxy.
//!
//! Flow: [`Kubernetes::find`] looks in `KUBEBUILDER_ASSETS` when that is set and in the cache; [`Kubernetes::prepare`]
//! builds what is missing there, one program at a time, each put in place by a rename, so that a build that was cut
//! off is never taken for a whole one. [`NodePrograms`] does the same for what only a node needs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::build::{self, GoBuild};

use crate::tools::COREDNS;

/// Must be the version that `kubernetes/go.mod` requires; it is also what the programs say of themselves.
pub const KUBERNETES_VERSION: &str = "1.36.3";

/// Where others keep etcd, kube-apiserver and kubectl (kubebuilder's `setup-envtest` sets it).
const ASSETS_ENV: &str = "KUBEBUILDER_ASSETS";

/// The Go module that names the programs as its tools.
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes");

/// One program of the control plane.
#[derive(Clone, Copy, Debug)]
struct Recipe {
    name: &'static str,
    package: &'static str,
    /// Whether `KUBEBUILDER_ASSETS` must hold it when set; kubebuilder ships no controller manager.
    in_assets: bool,
}

const ETCD: Recipe = Recipe { name: "etcd", package: "go.etcd.io/etcd/server/v3", in_assets: true };
const APISERVER: Recipe =
    Recipe { name: "kube-apiserver", package: "k8s.io/kubernetes/cmd/kube-apiserver", in_assets: true };
const CONTROLLER_MANAGER: Recipe = Recipe {
    name: "kube-controller-manager",
    package: "k8s.io/kubernetes/cmd/kube-controller-manager",
    in_assets: false,
};
const KUBECTL: Recipe = Recipe { name: "kubectl", package: "k8s.io/kubernetes/cmd/kubectl", in_assets: true };

const RECIPES: [Recipe; 4] = [ETCD, APISERVER, CONTROLLER_MANAGER, KUBECTL];

const KUBELET: Recipe =
    Recipe { name: "kubelet", package: "k8s.io/kubernetes/cmd/kubelet", in_assets: false };
const PROXY: Recipe =
    Recipe { name: "kube-proxy", package: "k8s.io/kubernetes/cmd/kube-proxy", in_assets: false };
const SCHEDULER: Recipe =
    Recipe { name: "kube-scheduler", package: "k8s.io/kubernetes/cmd/kube-scheduler", in_assets: false };

const NODE_RECIPES: [Recipe; 3] = [KUBELET, PROXY, SCHEDULER];

/// Where the programs are; all of them exist.
#[derive(Clone, Debug)]
pub struct Kubernetes {
    /// The store.
    pub etcd: PathBuf,
    /// The API.
    pub apiserver: PathBuf,
    /// Endpoint slices, garbage collection, namespaces, status of Deployments.
    pub controller_manager: PathBuf,
    /// The user's tool.
    pub kubectl: PathBuf,
}

/// Where the programs that a node needs beside [`Kubernetes`] are; all of them exist.
#[derive(Clone, Debug)]
pub struct NodePrograms {
    /// Runs the pods of a node.
    pub kubelet: PathBuf,
    /// Makes ClusterIPs work.
    pub proxy: PathBuf,
    /// Gives pods to nodes.
    pub scheduler: PathBuf,
    /// Tells pods where Services are.
    pub dns: PathBuf,
}

// === impl Kubernetes ===

impl Kubernetes {
    /// The programs as they are, without building any.
    ///
    /// # Errors
    /// Names the first one that is missing.
    pub fn find() -> Result<Self> {
        Ok(Self {
            etcd: existing(&ETCD)?,
            apiserver: existing(&APISERVER)?,
            controller_manager: existing(&CONTROLLER_MANAGER)?,
            kubectl: existing(&KUBECTL)?,
        })
    }

    /// The programs, built first where they are missing; says so and shows progress on standard error.
    ///
    /// # Errors
    /// When Go is missing or the build fails.
    pub async fn prepare() -> Result<Self> {
        build_missing(&RECIPES).await?;
        Self::find()
    }

    /// Whether [`Kubernetes::prepare`] can work here.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn can_prepare() -> Result<()> {
        Self::find().map_or_else(|missing| can_build(&missing), |_| Ok(()))
    }

    /// Deletes what was built.
    ///
    /// # Errors
    /// When the cache cannot be deleted.
    pub fn delete_built() -> Result<()> {
        let cache = cache()?;
        match fs::remove_dir_all(&cache) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete {}", cache.display()))
            }
            _ => Ok(()),
        }
    }
}

// === impl NodePrograms ===

impl NodePrograms {
    /// As [`Kubernetes::find`].
    ///
    /// # Errors
    /// Names the first one that is missing.
    pub fn find() -> Result<Self> {
        Ok(Self {
            kubelet: existing(&KUBELET)?,
            proxy: existing(&PROXY)?,
            scheduler: existing(&SCHEDULER)?,
            dns: COREDNS.find()?,
        })
    }

    /// As [`Kubernetes::prepare`].
    ///
    /// # Errors
    /// When Go is missing or the build fails.
    pub async fn prepare() -> Result<Self> {
        build_missing(&NODE_RECIPES).await?;
        COREDNS.prepare().await?;
        Self::find()
    }

    /// As [`Kubernetes::can_prepare`].
    ///
    /// # Errors
    /// Says what is missing.
    pub fn can_prepare() -> Result<()> {
        Self::find().map_or_else(|missing| can_build(&missing), |_| Ok(()))
    }
}

fn can_build(missing: &anyhow::Error) -> Result<()> {
    ensure!(
        build::can_build(),
        "the Kubernetes programs are not there ({missing}), and Go, which builds them, is not either: https://go.dev/doc/install"
    );
    Ok(())
}

async fn build_missing(recipes: &[Recipe]) -> Result<()> {
    let mut missing = Vec::new();
    for recipe in recipes {
        if !locate(recipe)?.is_file() {
            missing.push(recipe);
        }
    }
    if missing.is_empty() { Ok(()) } else { build_all(&missing).await }
}

fn existing(recipe: &Recipe) -> Result<PathBuf> {
    let path = locate(recipe)?;
    ensure!(path.is_file(), "{} does not exist: `make cluster` builds it", path.display());
    Ok(path)
}

/// Where a program must be. Given assets win: whoever sets them wants that version tested.
fn locate(recipe: &Recipe) -> Result<PathBuf> {
    if let Some(assets) = std::env::var_os(ASSETS_ENV).filter(|assets| !assets.is_empty()) {
        let path = Path::new(&assets).join(recipe.name);
        if path.is_file() {
            return Ok(path);
        }
        ensure!(!recipe.in_assets, "{ASSETS_ENV} is set, but {} does not exist", path.display());
    }
    Ok(cache()?.join(recipe.name))
}

fn cache() -> Result<PathBuf> {
    build::cache(&format!("kubernetes-v{KUBERNETES_VERSION}"))
}

async fn build_all(missing: &[&Recipe]) -> Result<()> {
    let cache = cache()?;
    let _lock = build::lock(&cache, "the Kubernetes programs")?;
    eprintln!(
        "Building Kubernetes v{KUBERNETES_VERSION} into {} (once; about 10 minutes on two cores when nothing is cached)",
        cache.display()
    );
    for recipe in missing {
        let path = cache.join(recipe.name);
        if !path.is_file() {
            build_one(recipe, &path).await?;
        }
    }
    Ok(())
}

async fn build_one(recipe: &Recipe, path: &Path) -> Result<()> {
    let (major, minor) = major_minor();
    let version = "k8s.io/component-base/version";
    // Without the version the API server calls itself v0.0.0, and kubectl and Helm refuse to talk to it.
    let ldflags = format!(
        "-s -w -X {version}.gitVersion=v{KUBERNETES_VERSION} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    );
    let (name, package) = (recipe.name, recipe.package);
    GoBuild { name, module: Path::new(MODULE), package, ldflags: &ldflags }.to(path).await
}

fn major_minor() -> (&'static str, &'static str) {
    let mut parts = KUBERNETES_VERSION.split('.');
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_of_the_go_module() {
        let module = fs::read_to_string(Path::new(MODULE).join("go.mod")).unwrap();
        assert!(module.contains(&format!("\tk8s.io/kubernetes v{KUBERNETES_VERSION} ")));
        // Staging modules carry the same numbers under major version 0.
        let (_, rest) = KUBERNETES_VERSION.split_once('.').unwrap();
        for line in module.lines().filter(|line| line.contains(" => k8s.io/")) {
            assert!(line.ends_with(&format!(" v0.{rest}")), "{line}");
        }
    }

    #[test]
    fn each_program_is_a_tool_of_the_go_module() {
        let module = fs::read_to_string(Path::new(MODULE).join("go.mod")).unwrap();
        for recipe in RECIPES.iter().chain(&NODE_RECIPES) {
            assert!(module.contains(&format!("\t{}\n", recipe.package)), "{}", recipe.package);
        }
    }
}
