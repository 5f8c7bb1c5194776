//! HAProxy, as its ingress controller (`haproxy.org/…`) configures it.
//!
//! It never collects an answer. What breaks streams is `timeout server`, 50 s unless told otherwise.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use super::{Front, READ_TIMEOUT, Setup, milliseconds};
use crate::process::Program;
use crate::tools::installed;

const TEMPLATE: &str = include_str!("haproxy.cfg");

/// What decides whether streams pass; all else is in the template.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// `timeout server`: the longest silence of the gateway before an answer and within one.
    pub server_timeout: Duration,
    /// `timeout client`: the longest silence of a client that has something to say.
    pub client_timeout: Duration,
}

// === impl Settings ===

impl Settings {
    /// What our chart renders: the annotation `haproxy.org/timeout-server`. The client's timeout has none.
    pub const RECOMMENDED: Self = Self { server_timeout: READ_TIMEOUT, ..Self::CLASS_DEFAULTS };

    /// The controller without an annotation: the defaults of its `timeout-…` keys.
    pub const CLASS_DEFAULTS: Self =
        Self { server_timeout: Duration::from_secs(50), client_timeout: Duration::from_secs(50) };

    /// Starts one in front of the gateway at that address.
    ///
    /// # Errors
    /// When HAProxy is not installed or does not come to listen; with the end of its log.
    pub async fn start(self, gateway: SocketAddr) -> Result<Front> {
        let setup = Setup::new()?;
        let values = [
            ("listen", setup.port.address.to_string()),
            ("gateway", gateway.to_string()),
            ("server_timeout", milliseconds(self.server_timeout)),
            ("client_timeout", milliseconds(self.client_timeout)),
        ];
        let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
        let path = setup.configure("haproxy.cfg", TEMPLATE, &values)?;
        // In the foreground and in one process.
        setup.start(Program::new("haproxy", installed("haproxy")?).args(["-db", "-f"]).arg(path)).await
    }
}
