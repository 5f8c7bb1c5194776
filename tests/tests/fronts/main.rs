//! Tests of real proxies in front of a gateway, configured as ingress controllers of their class do it: with what the
//! chart and the docs recommend, and with what such a controller does when nobody says anything. No cluster; agent,
//! controller, gateway and proxy are processes of this machine.
//!
//! `cfg(test)` always holds here; it tells clippy that helpers of tests are tests too.

#![cfg(test)]

mod doctor;
mod envoy;
mod haproxy;
mod nginx;
mod support;
mod uploads;
mod websocket;
