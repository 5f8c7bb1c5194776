//! The texts of `/proc`, proc(5). Pure.

use std::time::Duration;

use super::CoreTime;

/// Milliseconds of a tick: USER_HZ is 100 on every architecture that Linux gives to programs today.
const TICK_MS: u64 = 10;

/// A tick.
const TICK: Duration = Duration::from_millis(TICK_MS);

/// What is used of `/proc/PID/stat`. Times are those of all threads, those that ended included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) parent: u32,
    user: u32,
    system: u32,
}

/// `/proc/PID/stat`.
pub(super) fn stat(text: &str) -> Option<Stat> {
    // The name of the program stands in brackets and may hold brackets and spaces itself.
    let after_name = text.get(text.rfind(')')? + 1..)?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    // The first of these is field 3 in the manual's count.
    let field = |number: usize| fields.get(number - 3)?.parse().ok();
    Some(Stat { parent: field(4)?, user: field(14)?, system: field(15)? })
}

/// `/proc/PID/task/TID/schedstat`: time on a core.
pub(super) fn schedstat(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The number behind `name` at the begin of a line.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// What stands behind `name` and a colon in `/proc/cpuinfo`.
pub(super) fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find_map(|(key, value)| (key.trim() == name).then_some(value.trim()))
}

/// The cores of `/proc/stat`.
pub(super) fn cores(text: &str) -> Vec<CoreTime> {
    text.lines().filter_map(core).collect()
}

fn core(line: &str) -> Option<CoreTime> {
    let (core, ticks) = line.strip_prefix("cpu")?.split_once(' ')?;
    let core = core.parse().ok()?;
    let ticks: Vec<u64> = ticks.split_ascii_whitespace().map_while(|ticks| ticks.parse().ok()).collect();
    let &[_user, _nice, _system, idle, wait, _irq, _softirq, steal, ..] = ticks.as_slice() else {
        return None;
    };
    let time = |ticks: u64| Duration::from_millis(ticks.saturating_mul(TICK_MS));
    Some(CoreTime { core, idle: time(idle.saturating_add(wait)), steal: time(steal) })
}

/// Pages that TCP holds, of `/proc/net/sockstat`.
pub(super) fn tcp_pages(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_ascii_whitespace();
    words.find(|word| *word == "mem")?;
    words.next()?.parse().ok()
}

// === impl Stat ===

impl Stat {
    /// User and system time, exact to the nanosecond where `live`, the time of the threads that run, is all of it.
    /// Ticks are only good for the ratio of the two: they are 10 ms each. A thread that ended is in the ticks alone.
    pub(super) fn scaled_to(self, live: Duration) -> (Duration, Duration) {
        let (user, system) = (TICK * self.user, TICK * self.system);
        let ticks = user + system;
        let total = live.max(ticks);
        if ticks.is_zero() {
            return (total, Duration::ZERO);
        }
        let user = total.mul_f64(user.as_secs_f64() / ticks.as_secs_f64());
        (user, total.saturating_sub(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_it_is_called() {
        let text = "42 (a) b (c)) S 7 42 42 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 1 0 100 1000 10";
        assert_eq!(stat(text), Some(Stat { parent: 7, user: 150, system: 50 }));
        assert_eq!(stat("42 (a"), None);
    }

    #[test]
    fn time_is_exact_in_sum_and_split_as_the_ticks_say() {
        let stat = Stat { parent: 1, user: 150, system: 50 };
        let exact = Duration::from_millis(2004);
        assert_eq!(stat.scaled_to(exact), (Duration::from_millis(1503), Duration::from_millis(501)));
        // A thread with half of it has ended.
        assert_eq!(stat.scaled_to(Duration::from_secs(1)), (TICK * 150, TICK * 50));
        let new = Stat { user: 0, system: 0, ..stat };
        assert_eq!(new.scaled_to(exact), (exact, Duration::ZERO));
    }

    #[test]
    fn cores_are_read_with_what_others_took() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 10 1 5 80 2 1 1 4 3 0\ncpu1 1 2\nintr 5\n";
        let expected = CoreTime { core: 0, idle: TICK * 82, steal: TICK * 4 };
        assert_eq!(cores(text), [expected]);
    }

    #[test]
    fn fields_are_found() {
        let text = "Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\nVmRSS:\t  8 kB\n";
        assert_eq!(field(text, "voluntary_ctxt_switches:"), Some(12));
        assert_eq!(field(text, "nonvoluntary_ctxt_switches:"), Some(3));
        assert_eq!(field(text, "VmRSS:"), Some(8));
        assert_eq!(tcp_pages("sockets: used 3\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 7\n"), Some(7));
        assert_eq!(line("processor\t: 0\nmodel name\t: A B\n", "model name"), Some("A B"));
        assert_eq!(schedstat("123456 9 1\n"), Some(Duration::from_nanos(123_456)));
    }
}
