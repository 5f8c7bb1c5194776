//! Numbers and addresses as text, for what is written with every call: formatting through `Display` takes ten times the
//! instructions.

use std::io::Write as _;
use std::net::IpAddr;

/// Bytes of the longest IP address as `Display` writes it: eight groups of an IPv6 address.
pub(crate) const LONGEST_ADDRESS: usize = 39;

/// Appends `number` in decimal digits.
pub(crate) fn push_number(out: &mut Vec<u8>, number: impl Into<u64>) {
    out.extend_from_slice(itoa::Buffer::new().format(number.into()).as_bytes());
}

/// Appends `ip` as `Display` writes it.
pub(crate) fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            for (at, octet) in ip.octets().into_iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"" } else { b"." });
                push_number(out, octet);
            }
        }
        // Writing into a Vec cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_are_written_as_display_does(ip: IpAddr) {
            let mut text = Vec::new();
            push_ip(&mut text, ip);
            prop_assert!(text.len() <= LONGEST_ADDRESS);
            prop_assert_eq!(String::from_utf8(text).unwrap(), ip.to_string());
        }
    }
}
