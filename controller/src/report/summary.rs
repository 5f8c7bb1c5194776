//! What people see of the gateways that report.

use std::net::SocketAddr;

use serde::Serialize;

/// A gateway that reports.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportStatus {
    /// What it calls itself.
    pub node: String,
    /// The release of its program.
    pub build: String,
    /// Where it connects from.
    pub address: Option<SocketAddr>,
    /// Routes that it holds.
    pub held: usize,
    /// Routes that it refuses.
    pub rejected: usize,
    /// How busy it was when it last said so; unset before.
    pub load: Option<LoadSummary>,
    /// Seconds since it told all that it holds.
    pub member_seconds: u64,
}

/// How busy a gateway was at one moment, over all Agents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadSummary {
    /// Agents with something to tell.
    pub agents: usize,
    /// Calls that run, without standing streams.
    pub in_flight: u64,
    /// Calls that wait for a pod or a slot.
    pub waiting: u64,
    /// Calls that ended in the second before.
    pub completed: u64,
}
