//! What the benchmarks share, and the run of the real programs with a large table.
//!
//! - [`routes`] is the shape of an invented cluster: a hundred agents a namespace, four pods an agent. The same
//!   number gives the same table, so that two runs measure the same work.
//! - [`at_scale`] starts a controller and gateways and measures them from outside.

pub mod at_scale;
pub mod routes;
