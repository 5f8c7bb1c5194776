//! The gateway over real sockets: a fixed table, scripted agents, byte-exact clients.

mod calls;
mod support;
