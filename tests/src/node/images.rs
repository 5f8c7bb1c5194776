//! The images that the node's pods run, made here: FROM scratch, without a registry and without an image builder.
//! Those of Krypton itself are another matter ([`super::krypton`]).
//!
//! Owns: their names and contents. An image is a tar file per layer and a JSON file, which together make the archive that
//! `docker save` writes and `ctr images import` reads. Never pulls anything.
//!
//! Flow: [`build`] compiles the pause program, strips the example agent that was built beside this program, packs each
//! with the shared libraries that it needs, and writes one archive of all names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::process::Command;

/// Holds a pod's namespaces.
pub(crate) const PAUSE: &str = "krypton.test/pause:1";

/// The example agent; its answers say `x-agent-version: 1`.
pub const AGENT: &str = "krypton.test/example-agent:1";

/// The same, whose answers say `x-agent-version: 2`.
pub const NEXT_AGENT: &str = "krypton.test/example-agent:2";

/// The same, told something that it refuses: it says so and ends at once.
pub const CRASHING_AGENT: &str = "krypton.test/example-agent:crash";

/// What the manifests in `examples/` name.
pub const PUBLISHED_AGENT: &str =
    concat!("ghcr.io/kryptonhq/krypton-example-agent:", env!("CARGO_PKG_VERSION"));

/// As the published images do; a pod may ask for any user but root.
const USER: &str = "65532:65532";

/// Where the agent is in its image.
const AGENT_PATH: &str = "/krypton-example-agent";

const PAUSE_SOURCE: &str = include_str!("pause.c");

/// A layer of an image: a tar file called after its content.
struct Layer {
    name: String,
    digest: String,
}

/// Writes the archive of all images into `folder`, which exists, and gives back its path.
///
/// # Errors
/// When the example agent was not built, or `cc`, `strip`, `ldd` or `tar` fails; with what it said.
pub(crate) async fn build(folder: &Path, agent: &Path) -> Result<PathBuf> {
    ensure!(
        agent.is_file(),
        "{} does not exist: `cargo build -p krypton-example-agent` builds it",
        agent.display()
    );
    let archive = folder.join("archive");
    fs::create_dir_all(&archive)?;
    let pause = pack(&archive, "pause", &pause_root(folder).await?).await?;
    let echo = pack(&archive, "agent", &agent_root(folder, agent).await?).await?;

    let agent = |version: &str, args: &[&str]| {
        let env = format!("AGENT_VERSION={version}");
        json!({ "Entrypoint": [AGENT_PATH], "Cmd": args, "Env": [env], "User": USER })
    };
    let images = [
        (PAUSE, &pause, json!({ "Entrypoint": ["/pause"] })),
        (AGENT, &echo, agent("1", &[])),
        (NEXT_AGENT, &echo, agent("2", &[])),
        (CRASHING_AGENT, &echo, agent("crash", &["--port", "none"])),
        (PUBLISHED_AGENT, &echo, agent(env!("CARGO_PKG_VERSION"), &[])),
    ];
    let mut manifest = Vec::new();
    for (name, layer, config) in images {
        let config = image(layer, &config).to_string();
        let file = format!("{}.json", hex(&Sha256::digest(&config)));
        fs::write(archive.join(&file), &config)?;
        manifest.push(json!({ "Config": file, "RepoTags": [name], "Layers": [layer.name] }));
    }
    fs::write(archive.join("manifest.json"), Value::from(manifest).to_string())?;
    let images = folder.join("images.tar");
    // The pattern is the shell's: the reader looks for `manifest.json`, not for `./manifest.json`.
    let script = "cd \"$1\" && exec tar --create --file \"$2\" *";
    run(Command::new("sh").args(["-c", script, "sh"]).arg(&archive).arg(&images)).await?;
    Ok(images)
}

fn image(layer: &Layer, config: &Value) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)] },
    })
}

async fn pause_root(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("pause-root");
    fs::create_dir_all(&root)?;
    let source = folder.join("pause.c");
    fs::write(&source, PAUSE_SOURCE)?;
    run(Command::new("cc").args(["-static", "-Os", "-s", "-o"]).arg(root.join("pause")).arg(&source)).await?;
    Ok(root)
}

async fn agent_root(folder: &Path, agent: &Path) -> Result<PathBuf> {
    let root = folder.join("agent-root");
    fs::create_dir_all(&root)?;
    strip(agent, &root.join(AGENT_PATH.trim_start_matches('/'))).await?;
    copy_libraries(agent, &root).await?;
    Ok(root)
}

/// Copies a program without the names of functions and lines, which are half of it.
pub(crate) async fn strip(program: &Path, to: &Path) -> Result<()> {
    run(Command::new("strip").arg("-o").arg(to).arg(program)).await?;
    Ok(())
}

/// Copies the shared libraries that a program needs below `root`, to where it looks for them; gives back their paths.
pub(crate) async fn copy_libraries(program: &Path, root: &Path) -> Result<Vec<String>> {
    let printed = run(Command::new("ldd").arg(program)).await?;
    let found = libraries(&printed);
    for library in &found {
        let place = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("a library without a folder")?)?;
        fs::copy(library, &place).with_context(|| format!("cannot copy {library}"))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
    }
    Ok(found.into_iter().map(str::to_owned).collect())
}

/// The paths in what `ldd` prints: `name => /path (address)`, or `/path (address)` for the loader.
fn libraries(printed: &str) -> Vec<&str> {
    let path = |line| {
        let (_, after) = str::split_once(line, "=>").unwrap_or(("", line));
        after.split_whitespace().next().filter(|path| path.starts_with('/'))
    };
    printed.lines().filter_map(path).collect()
}

/// Packs a root file system; nothing in it tells who made it and when.
async fn pack(archive: &Path, name: &str, root: &Path) -> Result<Layer> {
    let name = format!("{name}.tar");
    let file = archive.join(&name);
    let same = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@0"];
    run(Command::new("tar")
        .args(same)
        .arg("--create")
        .arg("--file")
        .arg(&file)
        .arg("--directory")
        .arg(root)
        .arg("."))
    .await?;
    let digest = hex(&Sha256::digest(fs::read(&file)?));
    Ok(Layer { name, digest })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Runs a command; gives back its standard output.
pub(crate) async fn run(command: &mut Command) -> Result<String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output =
        command.kill_on_drop(true).output().await.with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_libraries_of_a_program() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffe)\n\
                       \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f9c)\n\
                       \t/lib64/ld-linux-x86-64.so.2 (0x00007f9d)\n";
        assert_eq!(libraries(printed), ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert_eq!(libraries("\tstatically linked\n"), Vec::<&str>::new());
    }

    #[test]
    fn the_examples_find_their_images_on_the_node() {
        let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
        let mut seen = 0;
        for entry in fs::read_dir(examples).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let text = fs::read_to_string(&path).unwrap();
                for image in text.lines().filter_map(|line| line.trim().strip_prefix("image: ")) {
                    assert_eq!(image, PUBLISHED_AGENT, "{}", path.display());
                    seen += 1;
                }
            }
        }
        assert!(seen > 0);
    }
}
