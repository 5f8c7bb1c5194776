//! Tests against a real Kubernetes API. `make test` gives them one; `krypton_e2e` says how to run one alone.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#![cfg(test)]

#[cfg(feature = "bridge")]
mod access;
#[cfg(feature = "bridge")]
mod agents;
#[cfg(feature = "bridge")]
mod api_proxy;
#[cfg(feature = "bridge")]
mod api_server;
#[cfg(feature = "bridge")]
mod at_scale;
#[cfg(feature = "bridge")]
mod certificates;
#[cfg(feature = "bridge")]
mod cli;
#[cfg(feature = "bridge")]
mod conditions;
mod crd;
mod docs;
#[cfg(feature = "bridge")]
mod endpoints;
#[cfg(feature = "bridge")]
mod faults;
#[cfg(feature = "bridge")]
mod invalid;
#[path = "../../../crd/tests/invalid/table.rs"]
mod invalid_specs;
#[cfg(feature = "bridge")]
mod leadership;
mod objects;
mod outage;
#[cfg(feature = "bridge")]
mod propagation;
#[cfg(feature = "bridge")]
mod rbac;
mod runner;
mod shared;
#[cfg(feature = "bridge")]
mod slow_api;
#[cfg(feature = "bridge")]
mod statuses;
#[cfg(feature = "bridge")]
mod support;
mod testbed;
#[cfg(feature = "bridge")]
mod upstream;
mod webhooks;
#[cfg(feature = "bridge")]
mod workloads;
