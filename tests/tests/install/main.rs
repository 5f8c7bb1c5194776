//! Krypton itself on a Kubernetes node: its images and its chart. Each test has a node of its own, since an install is
//! for a whole cluster, and waits for its turn, since a node takes most of a small machine.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#[cfg(test)]
#[path = "../cluster/conditions.rs"]
mod conditions;
#[cfg(test)]
mod front;
#[cfg(test)]
mod given_certificate;
#[cfg(test)]
mod images;
#[cfg(test)]
mod ingress;
#[cfg(test)]
#[path = "../cluster/objects.rs"]
mod objects;
#[cfg(test)]
mod plugin;
#[cfg(test)]
mod support;
#[cfg(test)]
mod upgrades;
#[cfg(test)]
mod upstream;
#[cfg(test)]
mod webhooks;
