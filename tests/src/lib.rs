//! Tests that see both binaries, and the testbed they stand on.
//!
//! Owns: a real Kubernetes control plane for tests ([`control_plane`]) and a record of calls to it ([`audit`]), one with a node that runs pods ([`node`]),
//! addresses that this API accepts as endpoints ([`bridge`]), Krypton's own programs as child processes ([`programs`]),
//! callers of them ([`client`], [`traffic`]), a Prometheus that scrapes them ([`prometheus`]), programs that stand
//! around a cluster ([`tools`]), Helm with the chart ([`helm`]),
//! and the promise that none of it outlives the run ([`state`]). It never touches a cluster, a process or an interface
//! that it did not make.
//!
//! Flow of `make test`:
//! 1. `krypton-testbed run --node -- cargo test …` builds or finds the programs ([`binaries`]), starts a control plane
//!    and names it in the environment ([`cluster::TESTBED_ENV`]). A second one has the node
//!    ([`cluster::TESTBED_NODE_ENV`]): pods that tests on the first make up or leave waiting never meet its scheduler;
//! 2. each test takes one by [`cluster::shared`] or [`cluster::shared_with_node`], and a namespace of its own by
//!    [`cluster::Cluster::with_namespace`];
//!    a test that breaks the API server starts one for itself by [`control_plane::ControlPlane::start`];
//! 3. when the command ends, or on Ctrl-C, all is taken down; what a killed run left is swept by the next one.
//!
//! Errors are `anyhow` throughout: their only reader is the person in front of a failed run.

pub mod audit;
pub mod authority;
pub mod binaries;
pub mod bridge;
mod build;
mod certificates;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod control_plane;
mod etcd;
pub mod front;
pub mod helm;
pub mod lockstep;
pub mod node;
pub mod process;
pub mod programs;
pub mod prometheus;
pub mod state;
pub mod tools;
pub mod traffic;
pub mod wait;
