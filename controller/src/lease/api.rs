//! The Lease in the Kubernetes API.
//!
//! Owns how a claim is written down and read. Every call has a deadline and is made once: when to try again is the
//! election's to say, and a client that repeats a write on its own would send claims late.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use krypton_crd::keys;
use kube::api::{Api, ObjectMeta, PostParams};

use super::record::{Answer, Call, Claim, LEASE_DURATION, Record, duration};
use crate::source::kube::sentence;

/// The longest that one call may take. A leader has time for three.
const DEADLINE: Duration = Duration::from_secs(2);

/// One Lease.
#[derive(Debug, Clone)]
pub(super) struct LeaseApi {
    api: Api<Lease>,
    name: String,
}

/// How a call ended.
#[derive(Debug)]
pub(super) struct Done {
    /// What the election is told.
    pub(super) answer: Answer,
    /// The Lease, where the answer is one.
    pub(super) lease: Option<Lease>,
    /// What went wrong, for people. A conflict is nothing wrong.
    pub(super) error: Option<String>,
}

// === impl LeaseApi ===

impl LeaseApi {
    /// The Lease `name`.
    pub(super) fn new(api: Api<Lease>, name: String) -> Self {
        Self { api, name }
    }

    /// Makes `call`. `base` is the newest Lease that was answered: what others wrote into it stays.
    pub(super) async fn perform(self, call: Call, base: Option<Lease>) -> Done {
        match tokio::time::timeout(DEADLINE, self.request(call, base)).await {
            Ok(done) => done,
            Err(_elapsed) => Done::failed(format!("no answer within {} s", DEADLINE.as_secs())),
        }
    }

    async fn request(&self, call: Call, base: Option<Lease>) -> Done {
        let options = PostParams { field_manager: Some(keys::FIELD_MANAGER.to_owned()), ..<_>::default() };
        match call {
            Call::Read => match self.api.get_opt(&self.name).await {
                Ok(Some(lease)) => Done::well(lease),
                Ok(None) => Done { answer: Answer::Absent, lease: None, error: None },
                Err(error) => Done::failed(describe(&error)),
            },
            Call::Create(claim) => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..<_>::default() };
                let lease = write(&claim, Lease { metadata, spec: None });
                match self.api.create(&options, &lease).await {
                    Ok(lease) => Done::well(lease),
                    // A 404 is about the namespace here.
                    Err(error) => Done::refused(&error, false),
                }
            }
            Call::Replace { version, claim } => {
                let based = base.filter(|base| base.metadata.resource_version.as_ref() == Some(&version));
                // With the uid of what was read, so that a Lease that is gone is a conflict: for this kind, the API
                // would make a new one of it.
                let Some(base) = based.filter(|base| base.metadata.uid.is_some()) else {
                    return Done { answer: Answer::Conflict, lease: None, error: None };
                };
                match self.api.replace(&self.name, &options, &write(&claim, base)).await {
                    Ok(lease) => Done::well(lease),
                    Err(error) => Done::refused(&error, true),
                }
            }
        }
    }
}

// === impl Done ===

impl Done {
    fn well(lease: Lease) -> Self {
        match read(&lease) {
            Some(record) => Self { answer: Answer::Lease(record), lease: Some(lease), error: None },
            None => Self::failed("the Lease has no resourceVersion".to_owned()),
        }
    }

    fn failed(error: String) -> Self {
        Self { answer: Answer::Failed, lease: None, error: Some(error) }
    }

    /// A write was not done, or so it seems. `may_be_absent`: a 404 is about the Lease.
    fn refused(error: &kube::Error, may_be_absent: bool) -> Self {
        let answer = match error {
            kube::Error::Api(status) if status.code == 409 => Answer::Conflict,
            kube::Error::Api(status) if status.code == 404 && may_be_absent => Answer::Absent,
            _ => return Self::failed(describe(error)),
        };
        Self { answer, lease: None, error: None }
    }
}

/// `base` with `claim` in it.
fn write(claim: &Claim, base: Lease) -> Lease {
    let Lease { mut metadata, spec } = base;
    let base = spec.unwrap_or_default();
    let annotations = metadata.annotations.get_or_insert_with(BTreeMap::new);
    match &claim.address {
        Some(address) => annotations.insert(keys::LEADER_ADDRESS_ANNOTATION.to_owned(), address.clone()),
        None => annotations.remove(keys::LEADER_ADDRESS_ANNOTATION),
    };
    let renew_time = claim.stamp.and_then(|stamp| Timestamp::from_microsecond(stamp).ok()).map(MicroTime);
    let acquired = base.lease_transitions != Some(claim.transitions) || base.acquire_time.is_none();
    let spec = LeaseSpec {
        holder_identity: Some(claim.holder.clone().unwrap_or_default()),
        lease_duration_seconds: i32::try_from(LEASE_DURATION.as_secs()).ok(),
        lease_transitions: Some(claim.transitions),
        acquire_time: if acquired { renew_time.clone() } else { base.acquire_time },
        renew_time,
        ..base
    };
    Lease { metadata, spec: Some(spec) }
}

/// What `lease` says, whoever wrote it; `None` if it is not from the API.
fn read(lease: &Lease) -> Option<Record> {
    let version = lease.metadata.resource_version.clone()?;
    let spec = lease.spec.clone().unwrap_or_default();
    let address =
        lease.metadata.annotations.as_ref().and_then(|all| all.get(keys::LEADER_ADDRESS_ANNOTATION));
    let claim = Claim {
        holder: holder(lease).map(str::to_owned),
        stamp: spec.renew_time.map(|time| time.0.as_microsecond()),
        transitions: spec.lease_transitions.unwrap_or_default(),
        address: address.filter(|address| super::is_address(address)).cloned(),
    };
    Some(Record { version, claim, duration: duration(spec.lease_duration_seconds) })
}

/// Who holds `lease`; `None` if nobody does.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        error => sentence(error),
    }
}

#[cfg(test)]
mod tests;
