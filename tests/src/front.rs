//! Proxies that stand in front of a gateway, as an ingress does: real nginx, HAProxy and Envoy.
//!
//! Owns: their configuration files (templates beside this file), a port for each, their start and their end. Each module
//! knows the settings by which its proxy breaks streams, what an ingress controller of its class sets them to when
//! nobody says anything, and what the chart and `docs/ingress.md` set them to. [`checks`] are the calls that tell the
//! two apart. [`contour`] is a whole ingress controller that drives Envoy.
//!
//! Flow: `nginx::Settings { … }.start(gateway)` fills the template into a folder of its own, starts the program in the
//! foreground and gives back a [`Front`] once it listens.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::process::{Program, Running};
use crate::state::RunDir;

pub mod checks;
pub mod contour;
pub mod envoy;
pub mod haproxy;
pub mod nginx;

/// What the chart sets by default (`ingress.readTimeout`): above the 5 minutes that an Agent may be silent by default.
pub const READ_TIMEOUT: Duration = Duration::from_secs(330);

/// They start in milliseconds; this is for a machine that is busy with other tests.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A proxy that listens; dropping it ends it.
#[derive(Debug)]
pub struct Front {
    /// The process.
    pub process: Running,
    /// Where clients call.
    pub address: SocketAddr,
    // Below: what it needs until its end.
    _port: Port,
    _folder: TempDir,
}

/// A port on loopback that is ours although somebody else listens there: for programs that cannot be asked which port
/// the system gave them. It takes no connection itself.
#[derive(Debug)]
pub struct Port {
    /// Where a program that shares ports may listen.
    pub address: SocketAddr,
    _socket: Socket,
}

/// What a start needs.
struct Setup {
    folder: TempDir,
    port: Port,
}

// === impl Setup ===

impl Setup {
    fn new() -> Result<Self> {
        let run = RunDir::of_this_process()?;
        let folder = tempfile::Builder::new().prefix("front-").tempdir_in(run.path())?;
        Ok(Self { folder, port: Port::reserve(Ipv4Addr::LOCALHOST)? })
    }

    /// Writes the configuration file, its placeholders filled, and gives back its path.
    fn configure(&self, name: &str, template: &str, values: &[(&str, &str)]) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::write(&path, fill(template, values)?)?;
        Ok(path)
    }

    async fn start(self, program: Program) -> Result<Front> {
        let Self { folder, port } = self;
        let mut process = program.start(RunDir::of_this_process()?)?;
        let address = port.address;
        let listens = async || Ok(TcpStream::connect(address).await?);
        process.until("it listens", START_DEADLINE, listens).await?;
        Ok(Front { process, address, _port: port, _folder: folder })
    }
}

// === impl Port ===

impl Port {
    /// Takes a free port.
    ///
    /// # Errors
    /// When there is none free.
    pub fn reserve(ip: Ipv4Addr) -> Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // Whoever shares a port must say so: nobody gets this one by chance, and the proxies here all say so.
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::from((ip, 0)).into())?;
        let address = socket.local_addr()?.as_socket().context("not an address of IP")?;
        Ok(Self { address, _socket: socket })
    }
}

/// Replaces each `{{name}}` of a template.
///
/// # Errors
/// When a placeholder has no value, or a value no placeholder.
pub fn fill(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        let placeholder = format!("{{{{{name}}}}}");
        ensure!(text.contains(&placeholder), "the template has no {placeholder}");
        text = text.replace(&placeholder, value);
    }
    ensure!(!text.contains("{{"), "a placeholder has no value in\n{text}");
    Ok(text)
}

/// As nginx and HAProxy read it.
fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

fn text(path: &Path) -> Result<String> {
    OsString::from(path).into_string().ok().context("the path of the state folder is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_and_its_values_must_agree() {
        assert_eq!(fill("a {{b}} {{b}} { c }", &[("b", "x")]).unwrap(), "a x x { c }");
        assert!(fill("a", &[("b", "x")]).is_err());
        assert!(fill("{{a}} {{b}}", &[("b", "x")]).is_err());
    }

    #[test]
    fn a_port_is_reserved_and_refuses_connections() {
        let port = Port::reserve(Ipv4Addr::LOCALHOST).unwrap();
        assert!(std::net::TcpListener::bind(port.address).is_err());
        assert!(std::net::TcpStream::connect(port.address).is_err());
    }
}
