//! The addresses around a node: pure arithmetic on the number of its interface `krypton<n>`.
//!
//! Out of 198.18.`n`.0/24 as a bridge's ([`crate::bridge`]), so that the two never meet: the cable between this machine
//! and the node's takes the lowest addresses, pods the upper half. ClusterIPs are 198.19.`n`.0/24.

use std::net::Ipv4Addr;

/// The network of one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network(u8);

// === impl Network ===

impl Network {
    pub(crate) fn new(number: u8) -> Self {
        Self(number)
    }

    /// This machine as the node sees it: where the API server listens.
    pub(crate) fn host(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.0, 1)
    }

    /// The node.
    pub(crate) fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.0, 2)
    }

    /// The Service of the API server: Kubernetes gives it the first address.
    pub(crate) fn api(self) -> Ipv4Addr {
        Ipv4Addr::new(198, 19, self.0, 1)
    }

    /// Pods get their addresses from here: 126, more than the 110 pods that a kubelet takes.
    pub(crate) fn pods(self) -> String {
        format!("198.18.{}.128/25", self.0)
    }

    /// Services get their ClusterIPs from here.
    pub(crate) fn services(self) -> String {
        format!("198.19.{}.0/24", self.0)
    }
}
