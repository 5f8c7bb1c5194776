//! Contour in front of a release, in a cluster that had it before the release came.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use http::Method;
use krypton_e2e::bridge::Bridge;
use krypton_e2e::client::{Answer, full, keeping_client};
use krypton_e2e::cluster::Namespace;
use krypton_e2e::front::READ_TIMEOUT;
use krypton_e2e::front::contour::{self, Contour, install_kinds};
use krypton_e2e::lockstep::Base;
use krypton_e2e::wait::eventually;
use serde_json::{Value, json};

use crate::support::{RELEASE, SOON, path};

/// What each of the two ways to the gateways is called by.
pub(crate) const INGRESS: &str = "ingress.test";
pub(crate) const HTTP_ROUTE: &str = "route.test";

/// Last byte of Contour's address.
const CONTOUR: u8 = 10;

/// Contour, and its Gateway in the test's namespace.
pub(crate) struct Front {
    pub(crate) contour: Contour,
    _bridge: Bridge,
}

// === impl Front ===

impl Front {
    pub(crate) async fn start(namespace: &Namespace) -> Result<Self> {
        install_kinds(namespace.cluster()).await?;
        let bridge = Bridge::create()?;
        let address = bridge.add(CONTOUR)?;
        let contour = Contour::start_for(namespace, &[RELEASE.namespace], address, READ_TIMEOUT).await?;
        Ok(Self { contour, _bridge: bridge })
    }

    /// Where clients call.
    pub(crate) fn address(&self) -> SocketAddr {
        self.contour.address
    }

    /// An agent, called by that host.
    pub(crate) fn base(&self, namespace: &Namespace, name: &str, host: &str) -> Base {
        Base::new(self.address(), &path(namespace, name)).host(host)
    }

    /// Calls an agent by that host until it is answered 200.
    pub(crate) async fn is_answered(&self, namespace: &Namespace, name: &str, host: &str) -> Base {
        let base = self.base(namespace, name, host);
        eventually(&format!("the first answer of {name} by {host}"), SOON, async || {
            let answer = ask(&base).await?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
            Ok(())
        })
        .await
        .unwrap();
        base
    }
}

/// What values say for both ways.
pub(crate) fn keys(namespace: &Namespace) -> Value {
    json!({
        "ingress": { "enabled": true, "class": "contour", "className": contour::NAME, "host": INGRESS },
        "httpRoute": {
            "enabled": true,
            "parentRefs": [{ "name": contour::NAME, "namespace": namespace.name() }],
            "hostnames": [HTTP_ROUTE],
        },
    })
}

/// `GET` of what is there.
pub(crate) async fn ask(base: &Base) -> Result<Answer> {
    let request = base.request(Method::GET, "")?.body(full(""))?;
    Answer::read(keeping_client().request(request).await?).await
}
