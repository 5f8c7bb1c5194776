//! Where the servers' certificates come from, as the flags say.

use std::sync::Arc;

use anyhow::Context as _;
use kube::Client;
use tokio::sync::watch;

use super::{Part, endless_part};
use crate::args::Args;
use crate::authority::{Authority, AuthorityConfig};
use crate::certificate::folder::{Folder, RELOAD};
use crate::certificate::secret::SecretSource;
use crate::certificate::{Alpn, Certificate, Configs, Server, State};
use crate::lease::{self, Leadership};
use crate::metrics::Metrics;

/// The certificates of all servers, and what keeps them true.
#[derive(Default)]
pub(super) struct Certificates {
    /// What each server that has one shows.
    configs: Vec<(Server, Configs)>,
    /// How they fare.
    pub(super) states: Vec<(&'static [Server], watch::Receiver<State>)>,
    /// What is to run.
    pub(super) parts: Vec<(&'static str, Part)>,
}

// === impl Certificates ===

impl Certificates {
    /// Opens them: from folders, or from the Secret that the leader fills.
    ///
    /// # Errors
    /// Files that are missing or do not fit each other.
    pub(super) async fn open(
        args: &Args,
        client: Option<&Client>,
        leadership: &Leadership,
        metrics: &Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let mut certificates = Self::default();
        if let Some(folder) = &args.discovery_cert_dir {
            let certificate = Certificate::new(&[Server::Discovery], Arc::clone(metrics));
            let folder = Folder::load(folder, certificate).await.context("--discovery-cert-dir")?;
            certificates.add(folder.certificate());
            certificates.parts.push(("discovery certificate", endless_part(folder.follow(RELOAD))));
        }
        if let (Some(secret), Some(client)) = (&args.certificate_secret, client) {
            certificates.follow_secret(args, secret, client, leadership, metrics);
        } else if args.enable_webhooks {
            let certificate = Certificate::new(&[Server::Webhooks], Arc::clone(metrics));
            let folder =
                Folder::load(&args.webhook_cert_dir, certificate).await.context("--webhook-cert-dir")?;
            certificates.add(folder.certificate());
            certificates.parts.push(("webhook certificate", endless_part(folder.follow(RELOAD))));
        }
        Ok(certificates)
    }

    /// What `server` shows; `None`: it is not to speak TLS.
    pub(super) fn configs(&self, server: Server) -> Option<Configs> {
        self.configs.iter().find(|(one, _)| *one == server).map(|(_, configs)| configs.clone())
    }

    fn follow_secret(
        &mut self,
        args: &Args,
        secret: &str,
        client: &Client,
        leadership: &Leadership,
        metrics: &Arc<Metrics>,
    ) {
        let namespace = lease::namespace_or_own(args.lease_namespace.clone());
        let servers: &[Server] =
            if args.enable_webhooks { &[Server::Discovery, Server::Webhooks] } else { &[Server::Discovery] };
        let certificate = Certificate::new(servers, Arc::clone(metrics));
        let source = SecretSource::new(client.clone(), &namespace, secret, certificate);
        self.add(source.certificate());
        self.parts.push(("certificate", endless_part(source.follow())));
        let config = AuthorityConfig {
            namespace,
            secret: secret.to_owned(),
            config_map: args.certificate_authority.clone().unwrap_or_default(),
            names: args.certificate_names.iter().cloned().collect(),
            webhooks: args.webhook_configurations.clone(),
        };
        let (authority, leadership) = (Authority::new(client.clone(), config), leadership.clone());
        let lead = async move { leadership.in_each_term(|term| authority.lead(term)).await };
        self.parts.push(("certificate authority", endless_part(lead)));
    }

    fn add(&mut self, certificate: &Certificate) {
        self.states.push((certificate.servers(), certificate.states()));
        for server in certificate.servers() {
            let alpn = match server {
                Server::Discovery => Alpn::H2,
                Server::Webhooks => Alpn::Http1,
            };
            self.configs.push((*server, certificate.configs(alpn)));
        }
    }
}
