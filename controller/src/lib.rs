//! The control side of Krypton: watches Agents and their endpoints and tells every gateway where to route.
//!
//! ```text
//! source -> index -> snapshot -> discovery -> gateway x N
//! ```
//!
//! - [`source`] turns the Kubernetes API, or a folder of manifests, into events.
//! - [`index`] turns events into routes; pure and synchronous.
//! - [`snapshot`] is every route at one moment, immutable.
//! - [`discovery`] brings each gateway from what it holds to the newest snapshot.
//! - [`report`] takes what gateways tell the leader, and [`programmed`] says from it which routes all of them hold.
//! - [`lease`] says which of several controllers leads; [`leader`] is what only that one does: it makes pods of Agents
//!   and tells their [`status`].
//! - [`webhooks`] checks Agents before the API server stores them, where that is turned on.
//! - [`certificate`] has what both show to those who connect over TLS; [`authority`] makes that, where the
//!   leader is asked to.
//! - [`status`] is what a person reads of an Agent: conditions, phase, Events.
//! - [`workload`] makes the objects that run an Agent and compares them with those that exist; pure.
//! - [`app`] wires these up and watches over them; [`admin`] shows how they fare.
//!
//! It never carries a call, and never depends on the gateway's code.

pub mod admin;
pub mod app;
pub mod args;
pub mod authority;
pub mod certificate;
pub mod discovery;
pub mod index;
pub mod leader;
pub mod lease;
pub mod metrics;
pub mod object;
pub mod programmed;
mod reconcile;
pub mod report;
mod seldom;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod webhooks;
pub mod workload;

#[cfg(test)]
mod testing;
