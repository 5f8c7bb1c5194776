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
    /// Without root or `ip` (iproute2), or when 253 bridges exist.
    pub fn create() -> Result<Self> {
        let run = RunDir::of_this_process()?;
        for number in NUMBERS {
            let name = name(number);
            let record = run.record(&Resource::Bridge(name.clone()))?;
            // Making the interface is what claims the number: the kernel refuses a second one of that name.
            match ip(&["link", "add", &name, "type", "bridge"]) {
                Ok(()) => {}
                Err(error) if error.to_string().contains("File exists") => continue,
                Err(error) => return Err(error),
            }
            let bridge = Self { number, _record: record };
            let own = format!("{}/24", bridge.address(OWN_HOST));
            ip(&["address", "add", &own, "dev", &name])?;
            ip(&["link", "set", &name, "up"])?;
            return Ok(bridge);
        }
        bail!("{} bridges called krypton<n> exist already", NUMBERS.len())
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

/// Deletes a bridge of ours by name, if it exists.
pub(crate) fn delete_interface(name: &str) {
    ip(&["link", "delete", name, "type", "bridge"]).ok();
}

fn name(number: u8) -> String {
    format!("krypton{number}")
}

fn ip(args: &[&str]) -> Result<()> {
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
