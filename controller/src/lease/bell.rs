//! The watch of the Lease: a bell, not a source.
//!
//! What a watch says may be late, so nothing is decided by it: it rings, and the election reads. It does not ring
//! for this controller's own claims. While it is interrupted, the election's own reads go on.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, WatchEvent, WatchParams};
use tokio::sync::Notify;

use super::api::holder;
use crate::source::kube::sentence;

/// The server ends a watch after this. Seconds.
const WATCH_TIMEOUT: u32 = 60;

/// When a watch is ended here that the server did not end: its connection is dead.
const OVERDUE: Duration = Duration::from_secs(65);

/// The first pause after a failure; it doubles with each in a row.
const MIN_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Failures in a row after which people are told, once.
const TROUBLE: u32 = 3;

/// A watch that lived for this was no failure in a row.
const STEADY: Duration = Duration::from_secs(10);

/// Watches the Lease `name`, and rings `bell` whenever somebody other than `identity` may have changed it.
pub(super) async fn listen(api: Api<Lease>, name: &str, identity: &str, bell: &Notify) -> Infallible {
    let params = WatchParams::default().fields(&format!("metadata.name={name}")).timeout(WATCH_TIMEOUT);
    let mut failures: u32 = 0;
    loop {
        let begun = Instant::now();
        let ended = tokio::time::timeout(OVERDUE, follow(&api, &params, identity, bell)).await;
        failures = if begun.elapsed() > STEADY { 1 } else { failures.saturating_add(1) };
        if failures == TROUBLE {
            let error = match ended {
                Ok(Err(error)) => sentence(&error),
                Ok(Ok(())) | Err(_) => "the server ends it".to_owned(),
            };
            log::warn!(lease = name, error; "Lease cannot be watched; a release is seen up to 2 s late");
        }
        // Also after an end that was due: a server that ends each watch at once must not be asked at once.
        let longest = MIN_PAUSE.saturating_mul(1 << (failures - 1).min(8)).min(MAX_PAUSE);
        tokio::time::sleep(longest.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

/// One watch. It begins with the Lease as it is, so that nothing between two watches is missed.
async fn follow(
    api: &Api<Lease>,
    params: &WatchParams,
    identity: &str,
    bell: &Notify,
) -> Result<(), kube::Error> {
    let events = api.watch(params, "0").await?;
    pin_mut!(events);
    while let Some(event) = events.next().await {
        match event? {
            WatchEvent::Added(lease) | WatchEvent::Modified(lease) if holder(&lease) == Some(identity) => {}
            WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_) => bell.notify_one(),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(())
}
