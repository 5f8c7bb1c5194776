//! The data plane of Krypton: one hop from `/v1/agents/{namespace}/{name}/…` to the agent's pod.
//!
//! ```text
//!  controller ──► discovery ──► route_table ◄── snapshot_file        (who is where, how sure we are)
//!  leader ◄────── report ◄──────────┤                                (what is held, how busy it is)
//!                                   │ one look-up a call
//!  client ──► server ──► proxy ─────┴──► balance ──► pod             (streams, never held back)
//!                          └──► metrics, access_log ──► admin        (every call is accounted for, once)
//! ```
//!
//! [`app`] wires them together. Nothing here knows Kubernetes: what the gateway knows, the controller told it.

pub mod access_log;
pub mod admin;
pub mod app;
pub mod args;
pub mod balance;
pub mod discovery;
pub mod link;
pub mod metrics;
pub mod path;
pub mod proxy;
pub mod readiness;
pub mod report;
pub mod route_table;
pub mod server;
pub mod snapshot_file;
mod text;

#[cfg(test)]
mod testing;
