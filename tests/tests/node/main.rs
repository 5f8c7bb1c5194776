//! Tests against a real Kubernetes API with a real node: pods run. `make test` gives them one; `krypton_e2e` says how to
//! run one alone.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#![cfg(test)]

#[path = "../cluster/conditions.rs"]
mod conditions;
mod contour;
mod deletion;
mod fields;
#[path = "../cluster/objects.rs"]
mod objects;
mod pods;
mod rollouts;
mod runner;
mod statuses;
mod support;
mod take_over;
#[path = "../cluster/testbed.rs"]
mod testbed;
#[path = "../fronts/websocket.rs"]
mod websocket;
