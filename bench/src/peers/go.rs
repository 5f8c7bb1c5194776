//! A gateway and a sidecar in Go; what they do and leave out is told in `bench/peers/go/main.go`.

use std::path::Path;

use krypton_e2e::tools::build_go;

use super::start::{OnPath, Start, listening};
use super::{Peer, StartError};

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/go");

pub(super) async fn start(mut start: Start<'_>) -> Result<Peer, StartError> {
    if !krypton_e2e::tools::has_go() {
        let how_to_get = "https://go.dev/doc/install".to_owned();
        return Err(StartError::Missing { what: "Go".to_owned(), how_to_get });
    }
    let program = build_go("bench-gateway", Path::new(MODULE)).await?;
    start.version(&program, "-version").await?;
    let setup = start.setup;
    let threads = setup.threads.to_string();
    let envs = [("GOMAXPROCS", threads.as_str())];
    let pool = setup.go_pool.unwrap_or(0).to_string();

    let mut endpoints: Vec<_> = setup.origins.iter().map(ToString::to_string).collect();
    if setup.hops > 1 {
        let pairs: Vec<_> = endpoints.iter().map(|origin| format!("127.0.0.1:0={origin}")).collect();
        let args = ["-pool", &pool, "-sidecar", &pairs.join(",")];
        let sidecar = start.run(("go-sidecar", &program, &args), &envs, &setup.cores, OnPath::Yes)?;
        for (n, endpoint) in endpoints.iter_mut().enumerate() {
            *endpoint = listening(sidecar, "sidecar", n).await?.to_string();
        }
    }
    let routes = start.agents().collect::<Vec<_>>().join("\n");
    let routes = start.list("routes.txt", &routes)?;
    let endpoints = endpoints.join(",");
    let args = ["-pool", &pool, "-listen", "127.0.0.1:0", "-routes", &routes, "-endpoints", &endpoints];
    let h2c: &[&str] = if setup.h2c { &["-h2c"] } else { &[] };
    let command = ("go-gateway", program.as_path(), &[&args[..], h2c].concat()[..]);
    let gateway = start.run(command, &envs, &setup.cores, OnPath::Yes)?;
    let address = listening(gateway, "gateway", 0).await?;
    Ok(start.finish(address, None))
}
