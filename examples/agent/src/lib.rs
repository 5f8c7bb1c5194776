//! A small real agent that speaks what agents speak: A2A, MCP (streamable HTTP), WebSocket and plain HTTP.
//!
//! It is what a reader of the project's README calls, and what tests and benches load: it reports what it
//! received, and knobs ([`KNOBS`]) make it slow, large, chopped or broken on purpose.
//!
//! It owns no business of an agent: its answers are made of words that it was given. It never needs a cluster, a
//! file or a network other than its own listener, so any number of instances run in one process ([`serve`]).
//!
//! Flow of a call:
//! 1. `server` accepts a connection and hands it to `connection`, which speaks HTTP/1.1 or h2c.
//! 2. `routes` chooses by path: `a2a`, `mcp`, `websocket`, `stream`, `lockstep`, else `echo`.
//! 3. `knobs` are parsed once; a bad one is a 400 that names it.
//! 4. `answer` plays the body: delay, chunks, pace, and an abort where one was asked for.
//! 5. On SIGTERM `server` stops accepting, lets open answers finish, and cuts what is left at the deadline.

mod a2a;
mod answer;
mod app;
mod args;
mod connection;
mod echo;
mod knobs;
mod lockstep;
mod mcp;
mod routes;
mod server;
mod stream;
mod websocket;

pub use app::run;
pub use args::Args;
pub use knobs::{KNOBS, Knob};
pub use server::{Drained, Server, serve};
