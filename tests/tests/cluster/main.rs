//! Tests against a real Kubernetes API. `make test` gives them one; `krypton_e2e` says how to run one alone.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#[cfg(feature = "bridge")]
#[cfg(test)]
mod access;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod agents;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod api_proxy;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod api_server;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod at_scale;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod certificates;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod cli;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod conditions;
#[cfg(test)]
mod crd;
#[cfg(test)]
mod docs;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod endpoints;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod faults;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod invalid;
#[cfg(test)]
#[path = "../../../crd/tests/invalid/table.rs"]
mod invalid_specs;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod leadership;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod outage;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod propagation;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod rbac;
#[cfg(test)]
mod runner;
#[cfg(test)]
mod shared;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod slow_api;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod statuses;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod support;
#[cfg(test)]
mod testbed;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod upstream;
#[cfg(test)]
mod webhooks;
#[cfg(feature = "bridge")]
#[cfg(test)]
mod workloads;
