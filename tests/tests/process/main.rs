//! Tests of the real programs together, as processes of this machine: no cluster, manifests in a folder.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#![cfg(test)]

mod calls;
mod command_line;
mod controllers;
mod dashboard;
mod drain;
mod garbage;
mod manifests;
mod observed;
#[cfg(feature = "metrics")]
mod queries;
mod rollouts;
mod snapshot_file;
mod support;
mod tls;
