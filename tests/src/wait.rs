//! Waiting for a state of something that cannot notify us (another process, the API server), with a deadline.
//!
//! This is the only place of the testbed that sleeps; a test awaits a state, never a time.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

/// Between two looks. Short against every deadline, long enough not to load the machine under test.
const PAUSE: Duration = Duration::from_millis(20);

/// Probes until it succeeds and gives back what it found.
///
/// # Errors
/// After `within`: names `what` was awaited, with the last probe's error as the cause. A probe that hangs is cut off at
/// the same deadline.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut last = anyhow::anyhow!("it did not answer at all");
    loop {
        match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(last).with_context(|| format!("waited {within:?} in vain: {what}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{bail, ensure};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gives_back_what_it_found() {
        let mut tries = 0;
        let found = eventually("three tries", Duration::from_secs(1), async || {
            tries += 1;
            ensure!(tries == 3, "only {tries}");
            Ok(tries)
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn names_the_last_reason() {
        let failed = eventually("a miracle", Duration::from_secs(1), async || -> Result<()> { bail!("no") });
        let error = format!("{:#}", failed.await.unwrap_err());
        assert_eq!(error, "waited 1s in vain: a miracle: no");
    }

    #[tokio::test(start_paused = true)]
    async fn cuts_off_a_probe_that_hangs() {
        let hung = eventually("an answer", Duration::from_secs(1), async || -> Result<()> {
            std::future::pending().await
        });
        let error = format!("{:#}", hung.await.unwrap_err());
        assert_eq!(error, "waited 1s in vain: an answer: it did not answer at all");
    }
}
