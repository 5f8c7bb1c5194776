//! The agent as its callers see it: real sockets, instances in this process (and once as a process of its own).

mod a2a;
mod client;
mod echo;
mod knobs;
mod life;
mod lockstep;
mod mcp;
mod stream;
mod websocket;
