//! Tests against a real Kubernetes API with a real node: pods run. `make test` gives them one; `krypton_e2e` says how to
//! run one alone.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#[cfg(test)]
#[path = "../cluster/conditions.rs"]
mod conditions;
#[cfg(test)]
mod contour;
#[cfg(test)]
mod deletion;
#[cfg(test)]
mod fields;
#[cfg(test)]
#[path = "../cluster/objects.rs"]
mod objects;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod rollouts;
#[cfg(test)]
mod runner;
#[cfg(test)]
mod statuses;
#[cfg(test)]
mod support;
#[cfg(test)]
mod take_over;
#[cfg(test)]
#[path = "../cluster/testbed.rs"]
mod testbed;
#[cfg(test)]
#[path = "../fronts/websocket.rs"]
mod websocket;
