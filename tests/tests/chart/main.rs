//! The chart: what it makes of values, whether a real API server takes that, and in which words it refuses the rest.
//!
//! `UPDATE_GOLDEN=1` rewrites the files in `golden/`; a person reads what changed in them.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#![cfg(test)]

mod api_server;
mod cases;
mod documents;
mod golden;
mod kinds;
mod notes;
mod refused;
mod releases;
mod rendered;
