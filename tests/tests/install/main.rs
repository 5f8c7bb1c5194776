//! Krypton itself on a Kubernetes node: its images. Each test has a node of its own, since an install is
//! for a whole cluster, and waits for its turn, since a node takes most of a small machine.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#[cfg(test)]
mod images;
#[cfg(test)]
mod support;
