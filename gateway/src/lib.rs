//! The data plane of Krypton.

pub mod balance;
pub mod metrics;
pub mod path;
pub mod proxy;
pub mod readiness;
pub mod route_table;
pub mod server;
pub mod snapshot_file;
