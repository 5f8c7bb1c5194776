//! The images of Krypton itself, for charts: built by the Dockerfiles that the published ones come from.
//!
//! Owns: their names on a node, and the base, which is made here since there is no registry: what the programs need of a C
//! library, and the few files of distroless/cc that a program may look for. Never compiles: the programs are those that
//! were built with the running test, stripped.
//!
//! Flow: [`archives`] makes the base and both images once per process, by buildah, whose store is in a folder of the run;
//! [`super::Node::load_krypton`] imports them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::OnceCell;

use super::images::{copy_libraries, run, strip};
use crate::programs;
use crate::state::RunDir;

/// What charts call `image.registry`.
pub const REGISTRY: &str = "krypton.test";

/// The tag of the images under test.
pub const TAG: &str = env!("CARGO_PKG_VERSION");

/// A second tag of the same images: to a Deployment, another version.
pub const NEXT_TAG: &str = "next";

/// Both programs; so the images are called.
pub(crate) const PROGRAMS: [&str; 2] = ["krypton-gateway", "krypton-controller"];

/// Where the Dockerfiles are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// buildah's, in the folder of the run.
const STORE: &str = "store";

const BASE: &str = "localhost/krypton-base";

/// What distroless/cc has of shared libraries, as far as a Rust program links it. One that is not here would be missing
/// where the published images run.
const LIBRARIES: [&str; 9] = [
    "ld-linux-",
    "libc.so.",
    "libdl.so.",
    "libgcc_s.so.",
    "libm.so.",
    "libpthread.so.",
    "libresolv.so.",
    "librt.so.",
    "libstdc++.so.",
];

/// Files of distroless that programs and C libraries read.
const FILES: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
    // Without it glibc asks the name servers only after it failed to find one of its own services.
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
];

/// The name of the image of `program` under the tag of the images under test.
#[must_use]
pub fn image(program: &str) -> String {
    format!("{REGISTRY}/{program}:{TAG}")
}

/// The archives of both images, one each, made at the first call.
///
/// # Errors
/// When buildah fails or a program was not built; with what it said.
pub(crate) async fn archives() -> Result<Vec<PathBuf>> {
    // Deleted with the run's folder: nothing drops what is static.
    static BUILT: OnceCell<TempDir> = OnceCell::const_new();
    let folder = BUILT
        .get_or_try_init(async || {
            let folder =
                tempfile::Builder::new().prefix("krypton-").tempdir_in(RunDir::of_this_process()?.path())?;
            build(folder.path()).await?;
            anyhow::Ok(folder)
        })
        .await?;
    Ok(PROGRAMS.iter().map(|program| archive(folder.path(), program)).collect())
}

fn archive(folder: &Path, program: &str) -> PathBuf {
    folder.join(format!("{program}.tar"))
}

async fn build(folder: &Path) -> Result<()> {
    let context = folder.join("context");
    let base = folder.join("base");
    fs::create_dir_all(&context)?;
    for program in PROGRAMS {
        let built = programs::binary(program)?;
        strip(&built, &context.join(program)).await?;
        let libraries = copy_libraries(&built, &base).await?;
        let missing = libraries.iter().find(|library| !is_of_the_base(library));
        ensure!(missing.is_none(), "{program} links {missing:?}, which its published base lacks");
    }
    make_base(folder, &base).await?;
    for program in PROGRAMS {
        make_image(folder, &context, program).await?;
    }
    // Ten times what the archives take.
    for made in [&context, &base, &folder.join(STORE)] {
        fs::remove_dir_all(made).with_context(|| format!("cannot delete {}", made.display()))?;
    }
    Ok(())
}

fn is_of_the_base(library: &str) -> bool {
    let name = library.rsplit('/').next().unwrap_or_default();
    LIBRARIES.iter().any(|known| name.starts_with(known))
}

async fn make_base(folder: &Path, root: &Path) -> Result<()> {
    for (name, text) in FILES {
        let path = root.join(name);
        fs::create_dir_all(path.parent().context("a file without a folder")?)?;
        fs::write(&path, text)?;
    }
    let temporary = root.join("tmp");
    fs::create_dir_all(&temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777))?;
    let container = run(buildah(folder).args(["from", "scratch"])).await?;
    let container = container.trim();
    run(buildah(folder).args(["copy", "--quiet", container]).arg(root).arg("/")).await?;
    run(buildah(folder).args(["commit", "--quiet", "--rm", container, BASE])).await?;
    Ok(())
}

/// The final stage of the program's Dockerfile, over the base.
async fn make_image(folder: &Path, context: &Path, program: &str) -> Result<()> {
    let kind = program.trim_start_matches("krypton-");
    let image = image(program);
    run(buildah(folder)
        // No container of its own namespaces, which root in a container may not make. Nothing runs in a build anyway.
        .args(["bud", "--quiet", "--isolation", "chroot", "--pull-never", "--layers=false"])
        .args(["--build-arg", "BINARY=prebuilt", "--build-arg", &format!("BASE={BASE}")])
        .args(["--tag", &image, "--file"])
        .arg(Path::new(SOURCES).join(format!("Dockerfile.{kind}")))
        .arg(context))
    .await?;
    let archive = archive(folder, program);
    run(buildah(folder)
        .args(["push", "--quiet", &image])
        .arg(format!("docker-archive:{}:{image}", archive.display())))
    .await?;
    Ok(())
}

/// buildah with a store of its own, in plain folders: nothing of it is mounted or shared.
fn buildah(folder: &Path) -> Command {
    let mut buildah = Command::new("buildah");
    buildah.arg("--root").arg(folder.join(STORE)).arg("--runroot").arg(folder.join("runs"));
    buildah.args(["--storage-driver", "vfs"]);
    buildah
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_distroless_lacks_is_told_from_those_it_has() {
        assert!(is_of_the_base("/lib/x86_64-linux-gnu/libc.so.6"));
        assert!(is_of_the_base("/lib64/ld-linux-x86-64.so.2"));
        assert!(!is_of_the_base("/usr/lib/x86_64-linux-gnu/libssl.so.3"));
        assert!(!is_of_the_base("/usr/lib/x86_64-linux-gnu/libcurl.so.4"));
    }
}
