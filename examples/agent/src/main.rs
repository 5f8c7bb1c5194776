//! `krypton-example-agent`: see the library and the README beside it.

use clap::Parser;
use krypton_example_agent::Args;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info,rmcp=warn")).init();
    krypton_example_agent::run(Args::parse()).await
}
