//! The gateway over real sockets: a fixed table, scripted agents, byte-exact clients.

mod balancing;
mod calls;
mod connections;
mod drain;
mod faults;
mod h2c;
mod http10;
mod http2;
mod probe;
mod stale;
mod streams;
mod support;
mod timeouts;
mod websocket;
