//! What is to be done about the certificate: pure but for the keys that it makes.
//!
//! Owns the rules of rotation. Everything that they need stands in the Secret and the ConfigMap, so that whoever leads
//! next goes on where the last one stopped, after any single write. Never does I/O and knows no clock.
//!
//! An authority is born as the *next* one, in the Secret. It is published, and [`OVERLAP`] later it signs: it becomes
//! the *active* one, in one write with its first leaf. The one before it stays published for [`OVERLAP`] after that
//! write. Where the Secret has nothing to show and nothing to sign with, replicas may still show what they hold, and
//! what the bundle held stays in it. If something in it is valid, the next authority signs [`HURRY`] after its
//! publication; else (the first start, everything expired) at once.
//!
//! 1. Make a next authority, if the active one is old or cannot sign.
//! 2. Publish what is to be trusted.
//! 3. Let the next authority sign, if it is published for long enough.
//! 4. Renew the leaf.
//!
//! Where one of the two objects cannot be written for now, its steps are left out, and those on the other are made: each
//! asks of what is published only what it needs.

use std::collections::BTreeSet;
use std::time::Duration;

use super::material::{Issuer, LEAF_LIFE, Leaf, Published, Stored, bundle};
use crate::certificate::UnixSeconds;
use crate::certificate::x509::Cert;

/// How long an authority is published before it signs, and stays so after its last leaf was replaced. The kubelet
/// brings a ConfigMap to pods within about two minutes; a cache of gateways or people gets some more.
pub(super) const OVERLAP: Duration = Duration::from_mins(10);

/// How long an authority is published before it signs where the Secret was lost or spoilt: as long as the kubelet
/// needs, so that no gateway is cut off that trusts what replicas hold, and no longer, since a controller that starts
/// meanwhile has nothing to show.
pub(super) const HURRY: Duration = Duration::from_mins(3);

/// An authority that ends sooner signs nothing more: its leaf would be due again at once, since leaves begin in the past.
const MIN_REST: Duration = Duration::from_hours(2);

/// Authorities of the past that are kept at most: what somebody else spoils again and again must not grow.
const MAX_PREVIOUS: usize = 8;

/// What to do, and when to look again.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) step: Step,
    /// What is to be trusted; empty before there is an authority.
    pub(super) bundle: String,
    /// Where nothing else changes, there is nothing to do before then.
    pub(super) again: UnixSeconds,
}

/// What may be written now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writable {
    pub(super) secret: bool,
    pub(super) config_map: bool,
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
    writable: Writable,
) -> Result<Plan, rcgen::Error> {
    let shown = stored.leaf.as_ref().filter(|leaf| is_shown(stored, leaf, now));
    let signer = stored.active.as_ref().filter(|active| is_signer(active, now));
    let kept = kept(stored, published, shown, now);
    let wanted = wanted(stored, &kept, now);
    let overlap = overlap(stored, published, shown.is_some() || signer.is_some(), now);
    let step = if writable.secret && needs_next(stored, signer, now) {
        let next = Some(Issuer::make(now)?);
        Step::Store(Box::new(Stored { next, previous: kept, ..stored.clone() }), Deed::MadeAuthority)
    } else if let Some(since) = publication(published, &wanted, now).filter(|_| writable.config_map) {
        Step::Publish { since }
    } else if !writable.secret {
        Step::Rest
    } else if let Some(next) = ripe(stored, published, overlap, now) {
        Step::Store(Box::new(promoted(stored, kept, next, names, now)?), Deed::ChangedAuthority)
    } else if let Some(signer) = signer.filter(|_| needs_leaf(shown, names, now)) {
        let leaf = signer.sign(names, now)?;
        if leaf.is_accepted_by(&signer.cert, now) {
            let renewed = Stored { leaf: Some(leaf), previous: kept, ..stored.clone() };
            Step::Store(Box::new(renewed), Deed::RenewedLeaf)
        } else {
            let active = Some(signer.clone().without_key());
            Step::Store(Box::new(Stored { active, ..stored.clone() }), Deed::DroppedKey)
        }
    } else {
        Step::Rest
    };
    Ok(Plan { step, bundle: bundle(&wanted), again: again(stored, published, overlap, now) })
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

/// Authorities of the past whose leaves may still be shown. Where the Secret has nothing to show, replicas go on with
/// what they have, and only the bundle says who may have signed that.
fn kept(stored: &Stored, published: &Published, shown: Option<&Leaf>, now: UnixSeconds) -> Vec<Cert> {
    let mut kept = match shown {
        Some(leaf) if now >= leaf.made().after(OVERLAP) => return Vec::new(),
        Some(_) => stored.previous.clone(),
        None => stored.previous.iter().chain(&published.certs).cloned().collect(),
    };
    let issuers = stored.active.iter().chain(&stored.next);
    let own: Vec<&Cert> = issuers.map(|issuer| &issuer.cert).collect();
    kept.retain(|cert| cert.is_authority() && cert.is_valid(now) && !own.contains(&cert));
    if shown.is_none() {
        // The youngest are those that never signed, where somebody empties the Secret again and again.
        kept.sort_by_key(|cert| std::cmp::Reverse(cert.not_before()));
    }
    latest(kept)
}

/// The authorities to be trusted.
fn wanted(stored: &Stored, kept: &[Cert], now: UnixSeconds) -> Vec<Cert> {
    let next = stored.next.as_ref().filter(|next| can_be_next(next, now));
    let mut wanted: Vec<Cert> = Vec::new();
    let signing = stored.active.as_ref().into_iter().chain(next).map(|issuer| &issuer.cert);
    for cert in signing.chain(kept) {
        if cert.is_authority() && cert.is_valid(now) && !wanted.contains(cert) {
            wanted.push(cert.clone());
        }
    }
    // By age: who signs is no reason to write it anew.
    wanted.sort_by_key(Cert::not_before);
    wanted
}

/// Since when nothing was added to the bundle, if it has to be written.
fn publication(published: &Published, wanted: &[Cert], now: UnixSeconds) -> Option<UnixSeconds> {
    // Before there is an authority there is nothing to say.
    if wanted.is_empty() {
        return None;
    }
    let since = published.since.filter(|since| *since <= now);
    if published.text == bundle(wanted) && since.is_some() {
        return None;
    }
    Some(since.filter(|_| wanted.iter().all(|cert| published.has(cert))).unwrap_or(now))
}

/// How long the next authority is published before it signs. `works`: there is something to show, or to sign with.
fn overlap(stored: &Stored, published: &Published, works: bool, now: UnixSeconds) -> Duration {
    if works {
        return OVERLAP;
    }
    // One that has expired is no better in the memory of replicas.
    let may_be_held = stored.leaf.as_ref().is_none_or(|leaf| leaf.cert.is_valid(now));
    let next = stored.next.as_ref().map(|next| &next.cert);
    let mut others = published.certs.iter().filter(|cert| Some(*cert) != next);
    if may_be_held && others.any(|cert| cert.is_authority() && cert.is_valid(now)) {
        HURRY
    } else {
        Duration::ZERO
    }
}

/// The next authority, if it may sign.
fn ripe<'a>(
    stored: &'a Stored,
    published: &Published,
    overlap: Duration,
    now: UnixSeconds,
) -> Option<&'a Issuer> {
    let next = stored.next.as_ref().filter(|next| can_be_next(next, now) && published.has(&next.cert))?;
    published.since.is_some_and(|since| now >= since.after(overlap)).then_some(next)
}

/// With `next` as the authority that signs.
fn promoted(
    stored: &Stored,
    kept: Vec<Cert>,
    next: &Issuer,
    names: &BTreeSet<String>,
    now: UnixSeconds,
) -> Result<Stored, rcgen::Error> {
    let mut previous = kept;
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
fn again(stored: &Stored, published: &Published, overlap: Duration, now: UnixSeconds) -> UnixSeconds {
    let mut moments = Vec::new();
    let second = Duration::from_secs(1);
    let leaf = stored.leaf.as_ref();
    let certs = leaf.map(|leaf| &leaf.cert).into_iter();
    for cert in certs.chain(stored.active.as_ref().map(|active| &active.cert)) {
        moments.extend([renewal(cert), cert.not_after().after(second)]);
    }
    if stored.next.is_some() {
        moments.extend(published.since.map(|since| since.after(overlap)));
    }
    if !stored.previous.is_empty() {
        moments.extend(leaf.map(|leaf| leaf.made().after(OVERLAP)));
    }
    moments.into_iter().filter(|moment| *moment > now).min().unwrap_or_else(|| now.after(LEAF_LIFE))
}

#[cfg(test)]
mod tests;
