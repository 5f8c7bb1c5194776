//! nginx; what is set and why is told in `bench/peers/nginx.conf`.

use std::fmt::Write as _;

use krypton_e2e::tools::installed;

use super::start::{Start, port};
use super::{Peer, StartError};

pub(super) const TEMPLATE: &str = include_str!("../../peers/nginx.conf");

pub(super) async fn start(mut start: Start<'_>) -> Result<Peer, StartError> {
    let program = installed("nginx").map_err(|_| StartError::no_package("nginx"))?;
    start.version(&program, "-v").await?;
    let (setup, port) = (start.setup, port()?);
    let mut routes = String::new();
    for agent in start.agents() {
        writeln!(routes, "{agent} agents;").expect("writing into a string cannot fail");
    }
    let routes = start.list("routes.map", &routes)?;
    let servers: Vec<_> = setup.origins.iter().map(|origin| format!("    server {origin};")).collect();
    let folder = start.path("")?;
    let folder = folder.trim_end_matches('/');
    let values = [
        ("folder", folder),
        ("listen", &port.address.to_string()),
        ("threads", &setup.threads.to_string()),
        ("routes", &routes),
        ("both_sides", &(start.clients() * 2).to_string()),
        ("servers", &servers.join("\n")),
        // Room for every agent at once, so that look-ups rarely meet another one.
        ("hash_size", &(setup.agents.max(1024) * 2).to_string()),
    ];
    let switches = [
        ("access_log", setup.access_log),
        ("buffering", setup.buffering),
        ("h2c", setup.h2c),
        ("one_process", setup.threads == 1),
    ];
    let path = start.configure("nginx.conf", TEMPLATE, &switches, &values)?;
    let args = ["-e", "stderr", "-p", folder, "-c", &path].map(str::to_owned);
    let args = args.each_ref().map(String::as_str);
    Ok(start.run_on(port, ("nginx", &program, &args)).await?)
}
