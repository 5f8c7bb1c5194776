//! The bench harness: the gateway beside nginx, HAProxy, Envoy and a Go gateway, under one load on one machine.
//!
//! - [`scenario`] knows what is measured and in which order; it writes a [`result::RunResult`].
//! - [`peers`] starts and configures who takes part, [`origin`] is the agent behind all of them.
//! - [`load`] is the generator: open and closed loop, streams, WebSockets, idle connections.
//! - [`procfs`] reads what a process and the machine used.
//! - [`stats`] turns samples into claims, [`report`] into a page.
//! - [`routes`] is the shape of an invented cluster: a hundred agents a namespace, four pods an agent. The same
//!   number gives the same table, so that two runs measure the same work.
//! - [`at_scale`] starts a controller and gateways and measures them from outside.

pub mod app;
pub mod at_scale;
mod busy_poll;
pub mod load;
pub mod origin;
pub mod peers;
pub mod procfs;
pub mod programs;
pub mod report;
pub mod result;
pub mod routes;
pub mod scenario;
pub mod stats;
