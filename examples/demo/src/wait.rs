//! Waiting for a state, with a deadline.

use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep, timeout_at};

/// How long anything on one machine may take. Far above what it does take: a build may have the processors.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Between two looks at a state that gives no sign of its change. Small, since some of them are measured.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Waits for `what`, which `future` brings.
///
/// # Errors
/// It did not come within [`DEADLINE`], or what the future fails with.
pub(crate) async fn within<T, E: Into<anyhow::Error>>(
    what: &str,
    future: impl Future<Output = Result<T, E>>,
) -> anyhow::Result<T> {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(result) => result.map_err(|error| error.into().context(what.to_owned())),
        Err(_) => Err(anyhow!("{what}: not within {DEADLINE:?}")),
    }
}

/// Looks until `what` is so, which is when `look` gives `Ok`.
///
/// # Errors
/// It was not so within [`DEADLINE`]; with what the last look said.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    until_every(LOOK_EVERY, what, look).await
}

/// As [`until`], with `pause` between two looks: for looks that cost something.
///
/// # Errors
/// As [`until`].
pub(crate) async fn until_every<T>(
    pause: Duration,
    what: &str,
    look: impl AsyncFn() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + DEADLINE;
    let mut last = anyhow!("it could not be looked at");
    while Instant::now() < deadline {
        match timeout_at(deadline, look()).await {
            Ok(Ok(state)) => return Ok(state),
            Ok(Err(error)) => last = error,
            Err(_) => break,
        }
        sleep(pause).await;
    }
    Err(last.context(format!("{what}: not within {DEADLINE:?}")))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::ensure;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn looking_ends_with_the_state_or_with_what_was_seen_last() {
        let looks = Cell::new(0);
        let look = async || {
            looks.set(looks.get() + 1);
            ensure!(looks.get() == 3, "look {}", looks.get());
            Ok("there")
        };
        assert_eq!(until("the third look", look).await.unwrap(), "there");

        let error = until("a miracle", async || Err::<(), _>(anyhow!("still water"))).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "a miracle: not within 60s: still water");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_has_a_deadline() {
        let never = std::future::pending::<anyhow::Result<()>>();
        let error = within("an answer", never).await.unwrap_err();
        assert_eq!(error.to_string(), "an answer: not within 60s");
    }
}
