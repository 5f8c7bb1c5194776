//! The gateway over real sockets: a fixed table, scripted agents, byte-exact clients.

mod calls;
mod h2c;
mod http2;
mod support;
