//! The guided tour of Krypton on one machine: the real gateway, the real controller and example agents as
//! processes, and what a caller sees of them while agents come, pods go and the controller dies.
//!
//! It measures and shows; it never stands in for a part of Krypton. A step that does not hold is a failure that
//! says so: the tour is the test of itself.
//!
//! Flow:
//! 1. `app` makes a `stage` in a temporary folder: the programs that lie next to this one, each on a free port
//!    (`process`), and a working copy of `examples/local/`.
//! 2. `tour` plays the stage's steps on the stage through a `client` and `traffic`, and tells them on the `screen`.
//! 3. `app` stays until Ctrl-C, then kills the programs and removes the folder. Programs die with this process
//!    in any case (`leash`).
//!
//! Errors are all read by the person who started the tour, hence `anyhow` throughout.

pub mod app;
pub mod args;
mod client;
mod kubectl;
pub mod leash;
mod manifest;
mod process;
mod screen;
mod sse;
mod stage;
mod tour;
mod traffic;
mod wait;
