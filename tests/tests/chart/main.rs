//! The chart: what it makes of values, whether a real API server takes that, and in which words it refuses the rest.
//!
//! `UPDATE_GOLDEN=1` rewrites the files in `golden/`; a person reads what changed in them.

#[cfg(test)]
mod api_server;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod notes;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod releases;
#[cfg(test)]
mod rendered;
