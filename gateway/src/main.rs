//! The gateway's program.

use clap::Parser as _;
use krypton_gateway::args::Args;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> anyhow::Result<()> {
    krypton_gateway::app::main(Args::parse())
}
