//! What is to be done about the certificate: pure but for the keys that it makes.
//!
//! Owns the rules of rotation. Everything that they need stands in the Secret and the ConfigMap, so that whoever leads
//! next goes on where the last one stopped, after any single write. Never does I/O and knows no clock.
//!
//! An authority is born as the *next* one, in the Secret. It is published, and [`OVERLAP`] later it signs: it becomes
//! the *active* one, in one write with its first leaf. The one before it stays published for [`OVERLAP`] after that
//! write. Where nothing can be shown and nothing can be signed (the first start, a Secret that was lost or spoilt,
//! everything expired) the same steps are taken without waiting.
//!
//! 1. Make a next authority, if the active one is old or cannot sign.
//! 2. Publish what is to be trusted.
//! 3. Let the next authority sign, if it is published for long enough.
//! 4. Renew the leaf.

use std::collections::BTreeSet;
use std::time::Duration;

use super::material::{Issuer, LEAF_LIFE, Leaf, Published, Stored, bundle};
use crate::certificate::UnixSeconds;
use crate::certificate::x509::Cert;

/// How long an authority is published before it signs, and stays so after its last leaf was replaced. The kubelet
/// brings a ConfigMap to pods within about two minutes; a cache of gateways or people gets some more.
pub(super) const OVERLAP: Duration = Duration::from_mins(10);

/// An authority that ends sooner signs nothing more: its leaf would be due again at once, since leaves begin in the past.
const MIN_REST: Duration = Duration::from_hours(2);

/// Authorities of the past that are kept at most: what somebody else spoils again and again must not grow.
const MAX_PREVIOUS: usize = 4;

/// What to do, and when to look again.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) step: Step,
    /// What is to be trusted; empty before there is an authority.
    pub(super) bundle: String,
    /// Where nothing else changes, there is nothing to do before then.
    pub(super) again: UnixSeconds,
}

/// One write.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing.
    Rest,
    /// Into the ConfigMap: the plan's bundle, and since when nothing was added to it.
    Publish {
        /// The new time.
        since: UnixSeconds,
    },
    /// Into the Secret.
    Store(Box<Stored>, Deed),
}

/// What a write to the Secret does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    /// There is a next authority.
    MadeAuthority,
    /// The next authority has become the active one, with a leaf.
    ChangedAuthority,
    /// There is a new leaf.
    RenewedLeaf,
    /// The active authority's key is given up: no leaf that it signs is accepted.
    DroppedKey,
}

/// What is to be done where `stored` and `published` are so, for servers that are called `names`.
///
/// # Errors
/// When no key or certificate can be made.
pub(super) fn plan(
    stored: &Stored,
    published: &Published,
    names: &BTreeSet<String>,
    now: UnixSeconds,
) -> Result<Plan, rcgen::Error> {
    let shown = stored.leaf.as_ref().filter(|leaf| is_shown(stored, leaf, now));
    let signer = stored.active.as_ref().filter(|active| is_signer(active, now));
    let wanted = wanted(stored, shown, now);
    let step = if needs_next(stored, signer, now) {
        Step::Store(Box::new(with_next(stored, published, shown.is_none(), now)?), Deed::MadeAuthority)
    } else if let Some(since) = publication(published, &wanted, now) {
        Step::Publish { since }
    } else if let Some(next) = ripe(stored, published, shown.is_some() || signer.is_some(), now) {
        Step::Store(Box::new(promoted(stored, next, names, now)?), Deed::ChangedAuthority)
    } else if let Some(signer) = signer.filter(|_| needs_leaf(shown, names, now)) {
        let leaf = signer.sign(names, now)?;
        if leaf.is_accepted_by(&signer.cert, now) {
            let previous =
                if is_overlapping(stored, shown, now) { stored.previous.clone() } else { Vec::new() };
            let renewed = Stored { leaf: Some(leaf), previous, ..stored.clone() };
            Step::Store(Box::new(renewed), Deed::RenewedLeaf)
        } else {
            let active = Some(signer.clone().without_key());
            Step::Store(Box::new(Stored { active, ..stored.clone() }), Deed::DroppedKey)
        }
    } else {
        Step::Rest
    };
    Ok(Plan { step, bundle: bundle(&wanted), again: again(stored, published, now) })
}

/// Whether clients accept `leaf`.
fn is_shown(stored: &Stored, leaf: &Leaf, now: UnixSeconds) -> bool {
    stored.active.as_ref().is_some_and(|active| leaf.is_accepted_by(&active.cert, now))
}

fn is_signer(active: &Issuer, now: UnixSeconds) -> bool {
    active.can_sign(now) && active.cert.not_after().since(now) >= MIN_REST
}

/// Two thirds of its life.
fn renewal(cert: &Cert) -> UnixSeconds {
    cert.not_before().after(cert.not_after().since(cert.not_before()) / 3 * 2)
}

fn can_be_next(next: &Issuer, now: UnixSeconds) -> bool {
    next.can_sign(now) && now < renewal(&next.cert)
}

fn needs_next(stored: &Stored, signer: Option<&Issuer>, now: UnixSeconds) -> bool {
    let is_due = signer.is_none_or(|signer| now >= renewal(&signer.cert));
    is_due && !stored.next.as_ref().is_some_and(|next| can_be_next(next, now))
}

fn needs_leaf(shown: Option<&Leaf>, names: &BTreeSet<String>, now: UnixSeconds) -> bool {
    shown.is_none_or(|leaf| leaf.cert.names() != names || now >= renewal(&leaf.cert))
}

/// Whether leaves of previous authorities may still be shown.
fn is_overlapping(stored: &Stored, shown: Option<&Leaf>, now: UnixSeconds) -> bool {
    !stored.previous.is_empty() && shown.is_none_or(|leaf| now < leaf.made().after(OVERLAP))
}

/// The authorities to be trusted.
fn wanted(stored: &Stored, shown: Option<&Leaf>, now: UnixSeconds) -> Vec<Cert> {
    let next = stored.next.as_ref().filter(|next| can_be_next(next, now));
    let mut wanted: Vec<Cert> = Vec::new();
    let previous = if is_overlapping(stored, shown, now) { &stored.previous[..] } else { &[] };
    let signing = stored.active.as_ref().into_iter().chain(next).map(|issuer| &issuer.cert);
    for cert in signing.chain(previous) {
        if cert.is_authority() && cert.is_valid(now) && !wanted.contains(cert) {
            wanted.push(cert.clone());
        }
    }
    // By age: who signs is no reason to write it anew.
    wanted.sort_by_key(Cert::not_before);
    wanted
}

/// With a new authority. Where nothing of the Secret can be shown (`lost`), replicas go on with what they have, so
/// that what was trusted until now stays so for a while.
fn with_next(
    stored: &Stored,
    published: &Published,
    lost: bool,
    now: UnixSeconds,
) -> Result<Stored, rcgen::Error> {
    let mut previous = stored.previous.clone();
    if lost {
        previous.extend(published.certs.iter().cloned());
    }
    let active = stored.active.as_ref().map(|active| &active.cert);
    previous.retain(|cert| Some(cert) != active);
    Ok(Stored { next: Some(Issuer::make(now)?), previous: latest(previous), ..stored.clone() })
}

/// Since when nothing was added to the bundle, if it has to be written.
fn publication(published: &Published, wanted: &[Cert], now: UnixSeconds) -> Option<UnixSeconds> {
    let since = published.since.filter(|since| *since <= now);
    if published.text == bundle(wanted) && since.is_some() {
        return None;
    }
    Some(since.filter(|_| wanted.iter().all(|cert| published.has(cert))).unwrap_or(now))
}

/// The next authority, if it may sign. `works`: there is something to show, or to sign with.
fn ripe<'a>(stored: &'a Stored, published: &Published, works: bool, now: UnixSeconds) -> Option<&'a Issuer> {
    let next = stored.next.as_ref().filter(|next| can_be_next(next, now) && published.has(&next.cert))?;
    let waited = published.since.is_some_and(|since| now >= since.after(OVERLAP));
    (waited || !works).then_some(next)
}

/// With `next` as the authority that signs.
fn promoted(
    stored: &Stored,
    next: &Issuer,
    names: &BTreeSet<String>,
    now: UnixSeconds,
) -> Result<Stored, rcgen::Error> {
    let mut previous = stored.previous.clone();
    previous.extend(stored.active.as_ref().map(|active| active.cert.clone()));
    previous.retain(|cert| *cert != next.cert);
    let leaf = Some(next.sign(names, now)?);
    Ok(Stored { active: Some(next.clone()), leaf, next: None, previous: latest(previous) })
}

/// The newest of `certs`, each once.
fn latest(certs: Vec<Cert>) -> Vec<Cert> {
    let mut kept: Vec<Cert> = Vec::new();
    for cert in certs.into_iter().rev() {
        if kept.len() < MAX_PREVIOUS && !kept.contains(&cert) {
            kept.insert(0, cert);
        }
    }
    kept
}

/// The first moment after `now` at which something changes by itself.
fn again(stored: &Stored, published: &Published, now: UnixSeconds) -> UnixSeconds {
    let mut moments = Vec::new();
    let second = Duration::from_secs(1);
    let leaf = stored.leaf.as_ref();
    let certs = leaf.map(|leaf| &leaf.cert).into_iter();
    for cert in certs.chain(stored.active.as_ref().map(|active| &active.cert)) {
        moments.extend([renewal(cert), cert.not_after().after(second)]);
    }
    if stored.next.is_some() {
        moments.extend(published.since.map(|since| since.after(OVERLAP)));
    }
    if !stored.previous.is_empty() {
        moments.extend(leaf.map(|leaf| leaf.made().after(OVERLAP)));
    }
    moments.into_iter().filter(|moment| *moment > now).min().unwrap_or_else(|| now.after(LEAF_LIFE))
}

#[cfg(test)]
mod tests;
