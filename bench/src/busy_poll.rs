//! Not sleeping.
//!
//! Over loopback, who sends to a process that sleeps pays for waking it, and in a virtual machine that is a call of the
//! hypervisor: a third of the CPU of a call. A proxy that leaves generator and origin nothing to wait for does not pay
//! it, a slower one does for each call, and over a network none would. So where CPU is compared, they do not sleep.

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
