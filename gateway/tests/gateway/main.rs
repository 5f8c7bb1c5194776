//! The gateway over real sockets: a fixed table, scripted agents, byte-exact clients.

mod calls;
mod http2;
mod support;
