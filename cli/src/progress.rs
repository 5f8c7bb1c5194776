//! That something takes its time, on standard error.
//!
//! On a terminal one line that is written over; elsewhere a line at the beginning. Never on standard output, which is
//! for the answer.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

/// What is quicker needs no word.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the line on a terminal is written.
const BEAT: Duration = Duration::from_secs(1);

/// Waits for `work`, and tells that it is `doing` something where it takes more than [`PATIENCE`]. `length` is how long
/// it takes, where that is known.
pub(crate) async fn during<T>(doing: &str, length: Option<Duration>, work: impl Future<Output = T>) -> T {
    let is_terminal = std::io::stderr().is_terminal();
    let begin = Instant::now();
    let mut told = false;
    let mut beat = tokio::time::interval_at(tokio::time::Instant::now() + PATIENCE, BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            result = &mut work => break result,
            _ = beat.tick() => {
                let line = line(doing, length, begin.elapsed());
                // Whoever closed standard error does not want to know.
                if is_terminal {
                    write!(std::io::stderr(), "\r\x1b[2K{line}").ok();
                } else if !told {
                    writeln!(std::io::stderr(), "{line}").ok();
                }
                told = true;
            }
        }
    };
    if told && is_terminal {
        write!(std::io::stderr(), "\r\x1b[2K").ok();
    }
    result
}

fn line(doing: &str, length: Option<Duration>, passed: Duration) -> String {
    match length {
        Some(length) => format!("{doing}: {} of {} s", passed.as_secs(), length.as_secs()),
        None => format!("{doing}: {} s", passed.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_long_it_takes() {
        assert_eq!(
            line("silent", Some(Duration::from_secs(65)), Duration::from_secs(3)),
            "silent: 3 of 65 s"
        );
        assert_eq!(line("asking", None, Duration::from_secs(3)), "asking: 3 s");
    }

    #[tokio::test]
    async fn the_result_is_that_of_the_work() {
        assert_eq!(during("adding", None, async { 1 + 1 }).await, 2);
    }
}
