//! What is judged by decoded values: names, fields that do not go together, and likely mistakes.

use std::time::Duration;

use super::fields::{Decoded, NAME};
use super::{Findings, Severity, present};
use crate::agent::{AgentSpec, ImagePullPolicy, Mode};
use crate::crd::{
    ALWAYS_ON_MESSAGE, IMAGE_MESSAGE, NAME_MESSAGE, REPLICA_BOUNDS_MESSAGE, SERVICE_ACCOUNT_MESSAGE,
};
use crate::decode::shortened;
use crate::image::{is_image, is_latest};
use crate::names::{AgentName, NameError, is_subdomain};

/// No agent that thinks answers faster; whoever writes less meant seconds and wrote `ms`.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn check(decoded: &Decoded<'_>, findings: &mut Findings) {
    check_names(decoded, findings);
    check_replicas(&decoded.spec, findings);
    check_habits(decoded, findings);
}

fn check_names(decoded: &Decoded<'_>, findings: &mut Findings) {
    let spec = &decoded.spec;
    match decoded.name.map(AgentName::parse) {
        None | Some(Ok(_)) => {}
        Some(Err(NameError::Missing)) => findings.invalid(NAME, "must not be empty; give the Agent a name"),
        Some(Err(NameError::TooLong(_) | NameError::NotALabel(_))) => {
            let name = shortened(decoded.name.unwrap_or_default());
            findings.invalid(NAME, format!("{name:?}: {NAME_MESSAGE}"));
        }
    }
    if !is_image(&spec.image) {
        findings.invalid("spec.image", format!("{:?} {IMAGE_MESSAGE}", shortened(&spec.image)));
    }
    if let Some(account) = &spec.service_account_name
        && !is_subdomain(account)
    {
        let message = format!("{:?} {SERVICE_ACCOUNT_MESSAGE}", shortened(account));
        findings.invalid("spec.serviceAccountName", message);
    }
    for (place, secret) in spec.image_pull_secrets.iter().enumerate() {
        let message = match secret.name.as_str() {
            "" => "is empty, and Kubernetes ignores it; name a Secret, or take the entry out".to_owned(),
            name if !is_subdomain(name) => {
                format!("{:?} can be no Secret's name; write a-z, 0-9, '-' and '.' only", shortened(name))
            }
            _ => continue,
        };
        findings.add(Severity::Suspicious, format!("spec.imagePullSecrets[{place}].name"), message);
    }
}

fn check_replicas(spec: &AgentSpec, findings: &mut Findings) {
    if let (Some(min), Some(max)) = (spec.min_replicas, spec.max_replicas)
        && max < min
    {
        let message = format!("{REPLICA_BOUNDS_MESSAGE}: {max} is less than {min}");
        findings.add(Severity::Contradictory, "spec.maxReplicas", message);
    }
    if spec.mode == Mode::AlwaysOn && spec.min_replicas == Some(0) {
        findings.add(Severity::Contradictory, "spec.minReplicas", ALWAYS_ON_MESSAGE);
    }
    if let (Mode::Serverless, Some(min @ 1..)) = (spec.mode, spec.min_replicas) {
        let message = format!("is {min}, so this serverless Agent never sleeps; take it out, or write 0");
        findings.add(Severity::Suspicious, "spec.minReplicas", message);
    }
}

/// What is legal and nearly always a mistake.
fn check_habits(decoded: &Decoded<'_>, findings: &mut Findings) {
    let spec = &decoded.spec;
    let written = present(decoded.raw, "image").is_some();
    if written && spec.image_pull_policy == ImagePullPolicy::IfNotPresent && is_latest(&spec.image) {
        let message = format!(
            "{:?} may change, and a node that has it never pulls it again; use a version, or imagePullPolicy Always",
            shortened(&spec.image)
        );
        findings.add(Severity::Suspicious, "spec.image", message);
    }
    if let Some(timeout) = spec.timeout.filter(|timeout| timeout.get() < SHORT_TIMEOUT) {
        let message =
            format!("{timeout} ends every call that the agent thinks about; write seconds, e.g. 300s");
        findings.add(Severity::Suspicious, "spec.timeout", message);
    }
}
