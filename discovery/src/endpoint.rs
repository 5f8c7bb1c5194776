//! One pod's address, and which addresses may be dialled at all.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

/// The UID of a pod. Kubernetes never gives one twice, unlike addresses.
pub type PodUid = Arc<str>;

/// What clouds serve to each of their machines, secrets among it, and that is not link-local as 169.254.169.254 is:
///
/// - AWS, "Access instance metadata for an EC2 instance"; and "Set up the Amazon EKS Pod Identity Agent"
/// - Google Cloud, "View and query VM metadata", for machines with IPv6 only
/// - Alibaba Cloud, "Instance metadata" of ECS
/// - Azure, "What is IP address 168.63.129.16?": settings and certificates of the machine
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0023)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0x00ce, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// Where one pod of an agent listens.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Never unspecified, multicast or with port 0. IPv4 is never written as an IPv6 address.
    address: SocketAddr,
    /// `None` where the slice names no pod (endpoints written by hand).
    pod_uid: Option<PodUid>,
}

/// Which addresses may be dialled. Both sides check: the controller so that bad endpoints never travel, the
/// gateway since it is the one that dials.
#[derive(Debug, Clone, Default)]
pub struct EndpointPolicy {
    /// Whether loopback is allowed: only where agents run on the gateway's own machine (`--manifests`).
    pub allow_loopback: bool,
    /// Networks that nobody may route to, e.g. the nodes' own.
    pub deny: Vec<IpNet>,
}

/// Why an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusedAddress {
    /// 0.0.0.0 or `::`.
    #[error("{0} is the unspecified address")]
    Unspecified(IpAddr),
    /// Multicast or the IPv4 broadcast address.
    #[error("{0} is a multicast or broadcast address")]
    Multicast(IpAddr),
    /// Link-local, where clouds serve their metadata.
    #[error("{0} is a link-local address")]
    LinkLocal(IpAddr),
    /// A cloud's metadata service outside the link-local range.
    #[error("{0} is a metadata service")]
    Metadata(IpAddr),
    /// Loopback, and the policy does not allow it.
    #[error("{0} is a loopback address")]
    Loopback(IpAddr),
    /// In one of the networks that the policy denies.
    #[error("{0} is in the denied network {1}")]
    Denied(IpAddr, IpNet),
    /// Port 0.
    #[error("port 0 cannot be dialled")]
    PortZero,
}

/// A network as flags name it. The parser's own words do not say what a network is.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    text.trim().parse().map_err(|_| {
        let alone = text.trim().parse::<IpAddr>();
        let example = alone.map_or_else(|_| "10.0.0.0/8".to_owned(), |alone| IpNet::from(alone).to_string());
        format!("expected a CIDR such as {example}")
    })
}

// === impl Endpoint ===

impl Endpoint {
    /// An endpoint at `address` of the pod `pod_uid`. An IPv6 form of an IPv4 address is turned into the
    /// latter, so that no rule can be passed by spelling.
    ///
    /// # Errors
    /// Addresses and ports that nothing can listen on. Whether the rest may be dialled is for
    /// [`EndpointPolicy`] to say.
    pub fn new(address: SocketAddr, pod_uid: Option<PodUid>) -> Result<Self, RefusedAddress> {
        let ip = address.ip().to_canonical();
        if address.port() == 0 {
            return Err(RefusedAddress::PortZero);
        }
        if ip.is_unspecified() {
            return Err(RefusedAddress::Unspecified(ip));
        }
        if is_multicast(ip) {
            return Err(RefusedAddress::Multicast(ip));
        }
        let pod_uid = pod_uid.filter(|uid| !uid.is_empty());
        Ok(Self { address: SocketAddr::new(ip, address.port()), pod_uid })
    }

    /// Where to dial.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The pod behind the address, where the slice names one.
    #[must_use]
    pub fn pod_uid(&self) -> Option<&PodUid> {
        self.pod_uid.as_ref()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.pod_uid.as_ref().map_or(Ok(()), |uid| write!(f, " (pod {uid})"))
    }
}

// === impl EndpointPolicy ===

impl EndpointPolicy {
    /// Whether `ip` may be dialled.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn check(&self, ip: IpAddr) -> Result<(), RefusedAddress> {
        let ip = ip.to_canonical();
        self.check_as_written(ip)?;
        behind_nat64(ip).map_or(Ok(()), |v4| self.check_as_written(v4.into()))
    }

    fn check_as_written(&self, ip: IpAddr) -> Result<(), RefusedAddress> {
        if ip.is_unspecified() {
            return Err(RefusedAddress::Unspecified(ip));
        }
        if is_multicast(ip) {
            return Err(RefusedAddress::Multicast(ip));
        }
        if is_link_local(ip) {
            return Err(RefusedAddress::LinkLocal(ip));
        }
        if METADATA.contains(&ip) {
            return Err(RefusedAddress::Metadata(ip));
        }
        if ip.is_loopback() && !self.allow_loopback {
            return Err(RefusedAddress::Loopback(ip));
        }
        match self.deny.iter().find(|network| network.contains(&ip)) {
            Some(network) => Err(RefusedAddress::Denied(ip, *network)),
            None => Ok(()),
        }
    }
}

/// Where a translator sends what is dialled at `ip`: the IPv4 address in 64:ff9b::/96, RFC 6052 §2.1. Prefixes that a
/// network chose for itself cannot be told from other addresses; they are for `deny`.
fn behind_nat64(ip: IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                let [.., a, b, c, d] = v6.octets();
                Some(Ipv4Addr::new(a, b, c, d))
            }
            _ => None,
        },
        IpAddr::V4(_) => None,
    }
}

fn is_multicast(ip: IpAddr) -> bool {
    ip.is_multicast() || matches!(ip, IpAddr::V4(v4) if v4.is_broadcast())
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_that_is_none_is_told_what_one_is() {
        assert_eq!(parse_network(" fd00::/8").unwrap(), "fd00::/8".parse::<IpNet>().unwrap());
        for (wrong, told) in
            [("ten", "10.0.0.0/8"), ("10.0.0.0/33", "10.0.0.0/8"), ("10.0.0.7", "10.0.0.7/32")]
        {
            assert_eq!(parse_network(wrong).unwrap_err(), format!("expected a CIDR such as {told}"));
        }
    }

    #[test]
    fn what_no_pod_can_have_is_refused() {
        let policy = EndpointPolicy::default();
        for ip in [
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "0.0.0.0",
            "::",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "100.100.100.200",
            "::ffff:100.100.100.200",
            "168.63.129.16",
        ] {
            assert!(policy.check(address(ip)).is_err(), "{ip}");
        }
        for ip in ["10.0.0.1", "198.18.0.1", "100.64.0.1", "100.100.100.201", "fd00::1", "2001:db8::1"] {
            assert_eq!(policy.check(address(ip)), Ok(()), "{ip}");
        }
    }

    #[test]
    fn a_translator_is_no_way_around_a_rule() {
        let policy = EndpointPolicy { allow_loopback: false, deny: vec!["10.1.0.0/16".parse().unwrap()] };
        for ip in ["169.254.169.254", "100.100.100.200", "127.0.0.1", "224.0.0.1", "0.0.0.0", "10.1.2.3"] {
            let translated = policy.check(address(&format!("64:ff9b::{ip}")));
            assert_eq!(translated, policy.check(address(ip)), "{ip}");
            assert!(translated.is_err(), "{ip}");
        }
        for ip in ["64:ff9b::10.2.0.1", "64:ff9b:1::127.0.0.1", "64:ff9c::127.0.0.1"] {
            assert_eq!(policy.check(address(ip)), Ok(()), "{ip}");
        }
        let networks = EndpointPolicy { allow_loopback: false, deny: vec!["64:ff9b::/96".parse().unwrap()] };
        assert!(
            networks.check(address("64:ff9b::10.2.0.1")).is_err(),
            "the translated form itself counts too"
        );
    }

    #[test]
    fn loopback_is_allowed_on_request_and_nothing_else_is() {
        let policy = EndpointPolicy { allow_loopback: true, deny: vec![] };
        assert_eq!(policy.check(address("127.0.0.1")), Ok(()));
        assert_eq!(policy.check(address("::1")), Ok(()));
        assert!(policy.check(address("169.254.169.254")).is_err());
    }

    #[test]
    fn denied_networks_are_named() {
        let network: IpNet = "10.1.0.0/16".parse().unwrap();
        let policy = EndpointPolicy { allow_loopback: false, deny: vec![network] };
        let ip = address("10.1.2.3");
        assert_eq!(policy.check(ip), Err(RefusedAddress::Denied(ip, network)));
        assert_eq!(policy.check(address("::ffff:10.1.2.3")), Err(RefusedAddress::Denied(ip, network)));
        assert_eq!(policy.check(address("10.2.0.1")), Ok(()));
    }

    #[test]
    fn an_endpoint_can_be_listened_on() {
        let new = |address: &str| Endpoint::new(address.parse().unwrap(), None);
        assert_eq!(new("10.0.0.1:0"), Err(RefusedAddress::PortZero));
        assert!(new("0.0.0.0:80").is_err());
        assert!(new("[ff02::1]:80").is_err());
        let mapped = new("[::ffff:10.0.0.1]:80").unwrap();
        assert_eq!(mapped.address(), "10.0.0.1:80".parse().unwrap());
    }

    #[test]
    fn an_empty_uid_is_none() {
        let endpoint = Endpoint::new("10.0.0.1:80".parse().unwrap(), Some("".into())).unwrap();
        assert_eq!(endpoint.pod_uid(), None);
    }
}
