//! Krypton itself on a Kubernetes node: its images and its chart. Each test has a node of its own, since an install is
//! for a whole cluster, and waits for its turn, since a node takes most of a small machine.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#![cfg(test)]

#[path = "../cluster/conditions.rs"]
mod conditions;
mod front;
mod given_certificate;
mod images;
mod ingress;
#[path = "../cluster/objects.rs"]
mod objects;
mod plugin;
mod support;
mod upgrades;
mod upstream;
mod webhooks;
