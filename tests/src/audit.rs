//! Every call that one user made, as the API server has it on record.
//!
//! Owns that user, who may do nothing before a test grants it, and the record. Never filters or judges: what a test
//! wants to know of the calls, it asks itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::certificates;

/// The user whose calls are on record.
pub const USER: &str = "krypton-controller";

/// Where the record is, and how to be the user in it.
#[derive(Debug, Clone)]
pub struct AuditLog {
    policy: PathBuf,
    log: PathBuf,
    kubeconfig: PathBuf,
}

/// A call that has been answered, or a watch whose answer has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What RBAC calls it, e.g. `list`.
    pub verb: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Resource in plural, with the subresource after a slash.
    pub resource: String,
    /// Name of the object; empty for collections.
    pub name: String,
    /// HTTP status of the answer.
    pub code: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    id: String,
    verb: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    code: u16,
}

// === impl AuditLog ===

impl AuditLog {
    /// Makes the user, in the file `tokens` of a control plane, and its kubeconfig from that of `administrator`.
    pub(crate) fn create(folder: &Path, tokens: &Path, administrator: &Path) -> Result<Self> {
        let token = certificates::token()?;
        let known = fs::read_to_string(tokens)?;
        certificates::write(folder, "tokens.csv", &format!("{known}{token},{USER},{USER}\n"))?;
        let mut kubeconfig: Value = serde_json::from_str(&fs::read_to_string(administrator)?)?;
        kubeconfig["users"][0]["user"]["token"] = token.into();
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{ "level": "Metadata", "users": [USER] }, { "level": "None" }],
        });
        Ok(Self {
            policy: certificates::write(folder, "audit-policy", &policy.to_string())?,
            log: folder.join("audit.log"),
            kubeconfig: certificates::write(folder, "audited-kubeconfig", &kubeconfig.to_string())?,
        })
    }

    /// The kubeconfig of the user.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// All calls so far, in the order of their answers. A call is on record before its caller has the answer.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn calls(&self) -> Result<Vec<Call>> {
        let text = fs::read_to_string(&self.log).with_context(|| format!("{}", self.log.display()))?;
        parse(&text)
    }

    /// The API server's flags.
    pub(crate) fn flags(&self) -> Vec<String> {
        vec![
            format!("--audit-policy-file={}", self.policy.display()),
            format!("--audit-log-path={}", self.log.display()),
            "--audit-log-mode=blocking".to_owned(),
            // Off by default, and what distributions turn on: who names an owner needs rights on that.
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
        ]
    }
}

// === impl Call ===

impl Call {
    /// Whether it changes something.
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

fn parse(log: &str) -> Result<Vec<Call>> {
    let mut calls: Vec<Call> = Vec::new();
    // A watch has an entry at its beginning and one at its end.
    let mut places = BTreeMap::new();
    // The last line may be half written.
    for line in log.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let event: Event = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let Some(object) = event.object_ref else { continue };
        let place = *places.entry(event.id).or_insert(calls.len());
        if place < calls.len() {
            continue;
        }
        let subresource = Some(object.subresource).filter(|name| !name.is_empty());
        calls.push(Call {
            verb: event.verb,
            group: object.api_group,
            resource: subresource
                .map_or(object.resource.clone(), |name| format!("{}/{name}", object.resource)),
            name: object.name,
            code: event.response_status.map_or(0, |status| status.code),
        });
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_once_and_half_a_line_not_at_all() {
        let entry = |id: &str, verb: &str, stage: &str, subresource: &str| {
            let object = json!({ "apiGroup": "krypton.ai", "resource": "agents", "subresource": subresource, "name": "a" });
            json!({ "auditID": id, "stage": stage, "verb": verb, "objectRef": object, "responseStatus": { "code": 200 } })
                .to_string()
        };
        let log = [
            entry("1", "watch", "ResponseStarted", ""),
            entry("2", "patch", "ResponseComplete", "status"),
            entry("1", "watch", "ResponseComplete", ""),
            json!({ "auditID": "3", "verb": "get", "requestURI": "/version" }).to_string(),
            String::from("{\"auditID\""),
        ];
        let calls = parse(&log.join("\n")).unwrap();
        let shown: Vec<_> =
            calls.iter().map(|call| (call.verb.as_str(), call.resource.as_str(), call.is_write())).collect();
        assert_eq!(shown, [("watch", "agents", false), ("patch", "agents/status", true)]);
        assert_eq!((calls[0].name.as_str(), calls[0].code), ("a", 200));
    }
}
