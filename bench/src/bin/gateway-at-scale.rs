//! Prints what the real programs need for a large table.

use clap::Parser as _;
use krypton_bench::at_scale::{Args, run};

fn main() -> anyhow::Result<()> {
    run(&Args::parse())
}
