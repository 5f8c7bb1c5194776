//! What is wrong with an installation, judged from what was read.
//!
//! Pure, but for the clock, which [`all`] reads once.

pub(crate) mod agents;
pub(crate) mod certificates;
pub(crate) mod flags;
pub(crate) mod front;
pub(crate) mod parts;

use std::time::{SystemTime, UNIX_EPOCH};

use super::gather::Gathered;
use crate::findings::{Finding, Level};

/// All findings, in the order in which a person would look.
pub(crate) fn all(gathered: &Gathered) -> Vec<Finding> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut findings = parts::deployments(gathered);
    findings.extend(parts::gateways(gathered));
    findings.extend(parts::tables(gathered));
    findings.extend(parts::lease(gathered, now));
    findings.extend(parts::definition(gathered));
    findings.extend(parts::discovery(gathered));
    findings.extend(certificates::all(gathered, now));
    findings.extend(agents::all(gathered));
    findings.extend(front::all(gathered));
    findings.extend(gathered.unread.iter().map(|(what, why)| {
        Finding::new(Level::Note, "NotRead", format!("Of {what}"), format!("nothing is said: {why}"))
    }));
    findings
}
