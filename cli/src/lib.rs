//! `kubectl krypton`: for the people who look after an installation of Krypton.
//!
//! ```text
//!  routes   ──► forward ──► each gateway's /debug/routes ──► routes::view   (what is held where, what differs)
//!  call     ──► http or forward ──► the gateway ──► the terminal, as it comes
//!  doctor   ──► cluster ──► doctor::checks                                  (is the installation healthy)
//!           └─► http ──► the gateway's probe ──► doctor::verdict ──► cures  (what does the ingress do)
//!  migrate  ──► cluster ──► migrate::plan ──► shown, asked, written         (what the Go system left behind)
//! ```
//!
//! [`app`] picks the command. What is decided is decided by functions without I/O; around them is only what asks the
//! cluster, the network and the terminal. It writes nothing but what `migrate` was told to write.

pub mod app;
pub mod args;
pub mod url;

mod call;
mod cluster;
mod doctor;
mod findings;
mod forward;
mod http;
mod migrate;
mod progress;
mod routes;
mod sse;
