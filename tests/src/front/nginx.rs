//! nginx, as the two ingress controllers that are made of it configure it, and as it is without one.
//!
//! ingress-nginx (`nginx.ingress.kubernetes.io/…`) turns response buffering off by itself, F5's (`nginx.org/…`) leaves
//! nginx's own default, which is on. Both cut answers after 60 s of silence, refuse requests above 1 MiB, and pass on an
//! upload once they have the whole of it.
//!
//! What buffering does to a stream depends on the version of HTTP towards the gateway. In HTTP/1.1, which both controllers
//! speak, the stream comes in chunks, and nginx passes each on once it has the whole of it. In HTTP/1.0, which nginx
//! speaks unless told otherwise (before 1.29.7), it waits until a buffer is full or the answer ends.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use super::{Front, READ_TIMEOUT, Setup, milliseconds, text};
use crate::process::Program;
use crate::tools::installed;

const TEMPLATE: &str = include_str!("nginx.conf");

/// What decides whether streams pass; all else is in the template.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "they are nginx's own, and independent of each other")]
pub struct Settings {
    /// `proxy_buffering`: whether answers are collected before they are passed on.
    pub buffers_answers: bool,
    /// `proxy_request_buffering`: the same of uploads.
    pub buffers_uploads: bool,
    /// `proxy_http_version`: whether 1.1 is spoken to the gateway, not 1.0.
    pub speaks_http_1_1: bool,
    /// Whether `X-Accel-Buffering: no` of the answer switches that off; false is
    /// `proxy_ignore_headers X-Accel-Buffering`.
    pub heeds_accel_buffering: bool,
    /// `proxy_read_timeout`: the longest silence of the gateway before an answer and within one.
    pub read_timeout: Duration,
    /// `client_max_body_size` in bytes; `None`: unlimited.
    pub body_limit: Option<u64>,
}

// === impl Settings ===

impl Settings {
    /// What our chart renders for both classes; for F5's, uploads need a snippet beside it.
    pub const RECOMMENDED: Self = Self {
        buffers_answers: false,
        buffers_uploads: false,
        speaks_http_1_1: true,
        heeds_accel_buffering: true,
        read_timeout: READ_TIMEOUT,
        body_limit: None,
    };

    /// ingress-nginx without an annotation: `proxy-buffering`, `proxy-read-timeout` and `proxy-body-size` of its
    /// ConfigMap reference.
    pub const INGRESS_NGINX_DEFAULTS: Self = Self {
        buffers_answers: false,
        buffers_uploads: true,
        speaks_http_1_1: true,
        heeds_accel_buffering: true,
        read_timeout: Duration::from_mins(1),
        body_limit: Some(1 << 20),
    };

    /// F5's controller without an annotation: as its ConfigMap reference says, and as nginx alone would do.
    pub const F5_DEFAULTS: Self = Self { buffers_answers: true, ..Self::INGRESS_NGINX_DEFAULTS };

    /// nginx that was told nothing but where the gateway is.
    pub const PLAIN_DEFAULTS: Self = Self { speaks_http_1_1: false, ..Self::F5_DEFAULTS };

    /// The worst that an owner can do to streams: it holds back also what the gateway asks it to pass on.
    pub const BUFFERS_EVERYTHING: Self = Self { heeds_accel_buffering: false, ..Self::PLAIN_DEFAULTS };

    /// Starts one in front of the gateway at that address.
    ///
    /// # Errors
    /// When nginx is not installed or does not come to listen; with the end of its log.
    pub async fn start(self, gateway: SocketAddr) -> Result<Front> {
        let setup = Setup::new()?;
        let folder = text(setup.folder.path())?;
        let on = |on| if on { "on" } else { "off" };
        let ignored = if self.heeds_accel_buffering { "" } else { "proxy_ignore_headers X-Accel-Buffering;" };
        let values = [
            ("folder", folder.as_str()),
            ("listen", &setup.port.address.to_string()),
            ("gateway", &gateway.to_string()),
            ("proxy_buffering", on(self.buffers_answers)),
            ("proxy_request_buffering", on(self.buffers_uploads)),
            ("http_version", if self.speaks_http_1_1 { "1.1" } else { "1.0" }),
            ("ignored_headers", ignored),
            ("read_timeout", &milliseconds(self.read_timeout)),
            ("body_limit", &self.body_limit.unwrap_or(0).to_string()),
        ];
        let path = setup.configure("nginx.conf", TEMPLATE, &values)?;
        // What it says before it has read its file would go to the system's log.
        let nginx =
            Program::new("nginx", installed("nginx")?).args(["-e", "stderr", "-p", &folder, "-c"]).arg(path);
        setup.start(nginx).await
    }
}
