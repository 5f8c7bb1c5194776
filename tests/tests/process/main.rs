//! Tests of the real programs together, as processes of this machine: no cluster, manifests in a folder.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod controllers;
#[cfg(test)]
mod dashboard;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod garbage;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod observed;
#[cfg(feature = "metrics")]
#[cfg(test)]
mod queries;
#[cfg(test)]
mod rollouts;
#[cfg(test)]
mod snapshot_file;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
