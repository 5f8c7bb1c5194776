//! Addresses that can be endpoints: a Linux bridge of the test's own.
//!
//! The Kubernetes API refuses loopback addresses in endpoints. Owns one bridge `krypton<n>` with addresses out of
//! 198.18.`n`.0/24 (198.18.0.0/15 is for benchmarks, RFC 2544; no real network uses it), at which programs of this
//! machine listen as pods would, and one address that can play a Service's ClusterIP. Needs root.
//!
//! An address that was removed again behaves like that of a pod whose node is gone: dials are not answered.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::state::{Record, Resource, RunDir};

/// `n` in the name and the addresses. Not 1: [`Bridge::cluster_ip`] would be that of the Service `kubernetes`.
const NUMBERS: std::ops::RangeInclusive<u8> = 2..=254;

/// The bridge's own address, so that the rest of its network is reached (and not answered) on it.
const OWN_HOST: u8 = 1;

/// A bridge; dropping it deletes it with its addresses.
#[derive(Debug)]
pub struct Bridge {
    number: u8,
    _record: Record,
}

impl Bridge {
    /// Makes one that no other test has.
    ///
    /// # Errors
    /// Without root or `ip` (iproute2), or when 253 interfaces of ours exist.
    pub fn create() -> Result<Self> {
        let add = |name: &str| ip(&["link", "add", name, "type", "bridge"]);
        let (number, record) = claim(RunDir::of_this_process()?, add)?;
        let bridge = Self { number, _record: record };
        let own = format!("{}/24", bridge.address(OWN_HOST));
        ip(&["address", "add", &own, "dev", &name(number)])?;
        ip(&["link", "set", &name(number), "up"])?;
        Ok(bridge)
    }

    /// The address with that last byte; whether it exists is not asked.
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(198, 18, self.number, host)
    }

    /// Adds the address with that last byte (2 to 254): from now on one can listen at it.
    ///
    /// # Errors
    /// When it exists already.
    pub fn add(&self, host: u8) -> Result<Ipv4Addr> {
        let address = self.address(host);
        self.change("add", address)?;
        Ok(address)
    }

    /// Removes it: dials to it are not answered any more, listeners and open connections hang.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn remove(&self, host: u8) -> Result<()> {
        self.change("delete", self.address(host))
    }

    /// Adds an address out of the testbed's Service range that no other bridge has and that the API server gives to no
    /// Service unless asked: what listens there plays a Service whose `clusterIP` is set to it.
    ///
    /// # Errors
    /// When called twice.
    pub fn cluster_ip(&self) -> Result<Ipv4Addr> {
        let address = Ipv4Addr::new(198, 19, 0, self.number);
        self.change("add", address)?;
        Ok(address)
    }

    fn change(&self, verb: &str, address: Ipv4Addr) -> Result<()> {
        ip(&["address", verb, &format!("{address}/32"), "dev", &name(self.number)])
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        delete_interface(&name(self.number));
    }
}

/// Makes the first interface `krypton<n>` that nobody has, by `add`, which is given its name.
pub(crate) fn claim(run: &RunDir, add: impl Fn(&str) -> Result<()>) -> Result<(u8, Record)> {
    for number in NUMBERS {
        let name = name(number);
        let resource = Resource::Interface(name.clone());
        // A second record of what this run has already would take the first one away with it.
        if run.holds(&resource) {
            continue;
        }
        let record = run.record(&resource)?;
        // Making the interface is what claims the number: the kernel refuses a second one of that name.
        match add(&name) {
            Ok(()) => return Ok((number, record)),
            Err(error) if error.to_string().contains("File exists") => {}
            Err(error) => return Err(error),
        }
    }
    bail!("{} interfaces called krypton<n> exist already", NUMBERS.len())
}

/// Deletes an interface of ours by name, if it exists.
pub(crate) fn delete_interface(name: &str) {
    ip(&["link", "delete", name]).ok();
}

pub(crate) fn name(number: u8) -> String {
    format!("krypton{number}")
}

/// Runs `ip`; an error carries what it said.
pub(crate) fn ip(args: &[&str]) -> Result<()> {
    let output =
        Command::new("ip").args(args).stdin(Stdio::null()).output().context("cannot run ip (iproute2)")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_second_claim_leaves_the_record_of_the_first() {
        let root = tempfile::tempdir().unwrap();
        let run = RunDir::create(root.path(), "run").unwrap();
        // What the kernel has: one of somebody else.
        let names = RefCell::new(vec![name(2)]);
        let add = |name: &str| {
            ensure!(!names.borrow().iter().any(|taken| taken == name), "File exists");
            names.borrow_mut().push(name.to_owned());
            Ok(())
        };
        let (first, _first) = claim(&run, add).unwrap();
        let (second, _second) = claim(&run, add).unwrap();
        assert_eq!((first, second), (3, 4));
        let recorded = [2, 3, 4].map(|number| run.holds(&Resource::Interface(name(number))));
        assert_eq!(recorded, [false, true, true]);
    }
}
