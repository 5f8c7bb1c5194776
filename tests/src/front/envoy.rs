//! Envoy, with the two timeouts that the ingress controllers made of it (Contour, Envoy Gateway) render.
//!
//! It never collects an answer. What breaks streams is the route's `timeout`, which is 15 s for the whole answer unless
//! told otherwise, and the idle timeout of a stream.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use super::{Front, READ_TIMEOUT, Setup};
use crate::process::Program;
use crate::tools::ENVOY;

const TEMPLATE: &str = include_str!("envoy.yaml");

/// What decides whether streams pass; all else is in the template.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// `timeout` of the route: from the end of the request to the end of the answer; zero: no limit.
    pub route_timeout: Duration,
    /// `stream_idle_timeout`: the longest silence of both sides; zero: no limit.
    pub stream_idle_timeout: Duration,
}

// === impl Settings ===

impl Settings {
    /// What our chart renders: no limit to the whole (`timeouts.request: 0s` of an HTTPRoute), one to the silence.
    pub const RECOMMENDED: Self = Self { route_timeout: Duration::ZERO, stream_idle_timeout: READ_TIMEOUT };

    /// Envoy's own, which Contour leaves alone.
    pub const CLASS_DEFAULTS: Self =
        Self { route_timeout: Duration::from_secs(15), stream_idle_timeout: Duration::from_mins(5) };

    /// Starts one in front of the gateway at that address.
    ///
    /// # Errors
    /// When Envoy is not there or does not come to listen; with the end of its log.
    pub async fn start(self, gateway: SocketAddr) -> Result<Front> {
        let setup = Setup::new()?;
        let listen = setup.port.address;
        let seconds = |time: Duration| format!("{:.3}s", time.as_secs_f64());
        let values = [
            ("listen_address", listen.ip().to_string()),
            ("listen_port", listen.port().to_string()),
            ("gateway_address", gateway.ip().to_string()),
            ("gateway_port", gateway.port().to_string()),
            ("route_timeout", seconds(self.route_timeout)),
            ("stream_idle_timeout", seconds(self.stream_idle_timeout)),
        ];
        let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
        let path = setup.configure("envoy.yaml", TEMPLATE, &values)?;
        setup.start(program("envoy")?.arg("--config-path").arg(path)).await
    }
}

/// Envoy with the flags that every start wants: small, and without the shared memory that instances would fight over.
pub(crate) fn program(name: &str) -> Result<Program> {
    let flags = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"];
    Ok(Program::new(name, ENVOY.find()?).args(flags))
}
