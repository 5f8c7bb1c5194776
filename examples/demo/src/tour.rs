//! The steps of the tour, in their order. Each shows something, checks that it holds, and says so in one sentence.

mod calls;
pub(crate) mod cluster;
pub(crate) mod local;

use std::time::Duration;

use anyhow::Context as _;

use crate::screen::Screen;

/// A tour being played on a stage.
struct Tour<'a, S> {
    stage: &'a mut S,
    screen: &'a Screen,
    /// What each step has shown.
    done: Vec<(&'static str, String)>,
}

// === impl Tour ===

impl<'a, S> Tour<'a, S> {
    fn new(stage: &'a mut S, screen: &'a Screen) -> Self {
        Self { stage, screen, done: Vec::new() }
    }

    /// Plays a step; what it gives is one sentence about what was shown.
    ///
    /// # Errors
    /// It does not hold; with its number and title.
    async fn step(
        &mut self,
        title: &'static str,
        step: impl AsyncFnOnce(&mut S, &Screen) -> anyhow::Result<String>,
    ) -> anyhow::Result<()> {
        let number = self.done.len() + 1;
        self.screen.heading(number, title)?;
        let shown =
            step(self.stage, self.screen).await.with_context(|| format!("step {number} ({title})"))?;
        self.screen.done(&shown)?;
        self.done.push((title, shown));
        self.screen.pause().await;
        Ok(())
    }

    fn sum_up(&self) -> anyhow::Result<()> {
        self.screen.heading(self.done.len() + 1, "All of it")?;
        let width = self.done.iter().map(|(title, _)| title.len()).max().unwrap_or_default();
        for (title, shown) in &self.done {
            self.screen.done(format_args!("{title:width$}  {shown}"))?;
        }
        Ok(())
    }
}

/// A time as people read it: `850 µs`, `7.3 ms`, `56 ms`, `1.9 s`.
fn human(time: Duration) -> String {
    let us = time.as_micros();
    let ms = time.as_secs_f64() * 1e3;
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{ms:.1} ms"),
        10_000..1_000_000 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_with_the_digits_that_matter() {
        for (us, text) in [
            (0, "0 µs"),
            (850, "850 µs"),
            (7_340, "7.3 ms"),
            (56_400, "56 ms"),
            (999_400, "999 ms"),
            (1_940_000, "1.9 s"),
        ] {
            assert_eq!(human(Duration::from_micros(us)), text);
        }
    }
}
