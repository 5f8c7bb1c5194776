//! Not sleeping.
//!
//! Over loopback, who sends to a process that sleeps pays for waking it, and in a virtual machine that is a call of the
//! hypervisor. The less time a proxy leaves generator and origin to sleep, the less it pays, and over a network none
//! would. So where a scenario is about CPU alone, they do not sleep; `bench/README.md` has the figures.

use std::convert::Infallible;

/// Keeps the runtime that this runs in from sleeping: it asks for events again and again, and lets other threads of its
/// core run in between.
pub(crate) async fn busy_poll() -> Infallible {
    loop {
        std::thread::yield_now();
        // The runtime asks for events before it comes back here.
        tokio::task::yield_now().await;
    }
}
