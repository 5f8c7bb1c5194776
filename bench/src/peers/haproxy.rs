//! HAProxy; what is set and why is told in `bench/peers/haproxy.cfg`.

use std::fmt::Write as _;

use krypton_e2e::tools::installed;

use super::start::{Start, port};
use super::{Peer, StartError};

pub(super) const TEMPLATE: &str = include_str!("../../peers/haproxy.cfg");

pub(super) async fn start(mut start: Start<'_>) -> Result<Peer, StartError> {
    let program = installed("haproxy").map_err(|_| StartError::no_package("haproxy"))?;
    start.version(&program, "-v").await?;
    let (setup, port) = (start.setup, port()?);
    let mut routes = String::new();
    for agent in start.agents() {
        writeln!(routes, "{agent} agents").expect("writing into a string cannot fail");
    }
    let routes = start.list("routes.map", &routes)?;
    let servers = setup.origins.iter().enumerate();
    let servers: Vec<_> = servers.map(|(n, origin)| format!("  server endpoint-{n} {origin}")).collect();
    let values = [
        ("listen", port.address.to_string()),
        ("threads", setup.threads.to_string()),
        ("routes", routes),
        ("servers", servers.join("\n")),
    ];
    let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
    let switches = [("access_log", setup.access_log), ("h2c", setup.h2c)];
    let path = start.configure("haproxy.cfg", TEMPLATE, &switches, &values)?;
    // In the foreground and in one process.
    Ok(start.run_on(port, ("haproxy", &program, &["-db", "-f", &path])).await?)
}
