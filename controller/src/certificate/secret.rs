//! A certificate from a Secret, followed over the Kubernetes API.
//!
//! What was seen last stays in use, whatever becomes of the Secret or of the way to it.

use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::time::MissedTickBehavior;

use super::{CERTIFICATE, Certificate, KEY, Pair, UnixSeconds};
use crate::source::kube::single::{self, Sight};

/// How often it is looked at whether the certificate has expired.
const EXPIRY: Duration = Duration::from_mins(1);

/// A Secret with `tls.crt` and `tls.key`.
pub struct SecretSource {
    api: Api<Secret>,
    name: String,
    /// Namespace and name, for people.
    shown: String,
    certificate: Certificate,
}

// === impl SecretSource ===

impl SecretSource {
    /// The Secret `name` in `namespace` as the source of `certificate`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, certificate: Certificate) -> Self {
        let shown = format!("Secret {namespace}/{name}");
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), shown, certificate }
    }

    /// What was seen, nothing before [`follow`](Self::follow) runs.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Follows it, for ever.
    pub async fn follow(mut self) {
        let sights = single::follow(self.api.clone(), &self.name);
        tokio::pin!(sights);
        let mut ticks = tokio::time::interval(EXPIRY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(sight) = sights.next() => self.take(sight),
                _ = ticks.tick() => {}
            }
            self.certificate.tell_expiry(UnixSeconds::now());
        }
    }

    fn take(&mut self, sight: Sight<Secret>) {
        let problem = match sight {
            Sight::There(secret) => self.take_secret(secret).err(),
            Sight::Absent => {
                Some("does not exist; whoever installs the controller makes it, empty".to_owned())
            }
            Sight::Failed(error) => Some(format!("cannot be read: {error}")),
        };
        if let Some(problem) = problem {
            self.certificate.tell_problem(&format!("{} {problem}", self.shown));
        }
    }

    fn take_secret(&mut self, secret: Secret) -> Result<(), String> {
        let mut data = secret.data.unwrap_or_default();
        let (Some(certificate), Some(key)) = (data.remove(CERTIFICATE), data.remove(KEY)) else {
            return Err(format!("has no {CERTIFICATE} and {KEY} yet; the controller that leads fills it"));
        };
        let taken = self.certificate.take(Pair { certificate: certificate.0, key: key.0 });
        taken.map(|_| ()).map_err(|error| format!("cannot be used: {error}"))
    }
}
