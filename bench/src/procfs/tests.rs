use std::time::Instant;

use super::*;

fn burn(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::black_box(0);
    }
}

#[test]
fn our_own_use_rises_with_what_we_do() {
    let (pid, began) = (std::process::id(), Instant::now());
    let (before, machine_before) = (usage(&[pid]).unwrap(), machine().unwrap());
    // By its own clock it gets the time that it takes, however busy the machine is.
    while usage(&[pid]).unwrap().since(before).cpu() < Duration::from_millis(50) {
        burn(Duration::from_millis(5));
    }
    let file = fs::File::open("/proc/self/stat").unwrap();
    let after = usage(&[pid]).unwrap();
    assert!(after.rss > 1 << 20 && after.fds > 2, "{after:?}");
    drop(file);
    let (cores, time) = (allowed_cores().unwrap(), began.elapsed());
    let machine = between(&machine_before, &machine().unwrap());
    assert!((0.0..=100.0).contains(&machine.foreign_percent(&cores, time, Duration::ZERO)), "{machine:?}");
    assert!(machine.foreign_percent(&cores, time, Duration::ZERO) > 0.0, "{machine:?}");
}

#[test]
fn a_process_that_is_not_there_is_an_error() {
    let error = usage(&[u32::MAX]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[test]
fn children_are_found_and_summed_up() {
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let ours = std::process::id();
    assert!(children(ours).unwrap().contains(&child.id()));
    let (one, both) = (usage(&[child.id()]).unwrap(), usage(&[ours, child.id()]).unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(both.rss > one.rss && one.rss > 0);
}

#[test]
fn children_keep_the_cores_that_were_chosen_and_the_thread_goes_back() {
    let before = allowed_cores().unwrap();
    let last = *before.last().unwrap();
    let pinned = pin_children(&[last]).unwrap();
    let output = std::process::Command::new("grep").args(["Cpus_allowed_list", "/proc/self/status"]).output();
    assert_eq!(allowed_cores().unwrap(), [last]);
    drop(pinned);
    assert_eq!(allowed_cores().unwrap(), before);
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert_eq!(text.split_whitespace().nth(1), Some(last.to_string().as_str()));
}

#[test]
fn a_core_that_is_not_there_is_named_with_those_that_are() {
    let error = pin_children(&[1023]).unwrap_err().to_string();
    assert!(error.starts_with("core 1023 is not one that may be used here: "), "{error}");
    assert!(pin_children(&[]).is_ok());
}

#[test]
fn foreign_use_is_what_is_left_after_our_own() {
    let time =
        |core, idle| CoreTime { core, idle: Duration::from_millis(idle), steal: Duration::from_millis(100) };
    let machine = MachineBetween { cores: vec![time(0, 100), time(1, 400)], ..MachineBetween::default() };
    let close = |left: f64, right: f64| assert!((left - right).abs() < 1e-9, "{left} {right}");
    let (second, own) = (Duration::from_secs(1), Duration::from_millis(700));
    close(machine.foreign_percent(&[0], second, own), 10.0);
    close(machine.foreign_percent(&[0, 1], second, own), 30.0);
    close(machine.foreign_percent(&[1], second, Duration::from_secs(2)), 0.0);
    close(machine.steal_percent(&[0, 1], second), 10.0);
    close(machine.steal_percent(&[], second), 0.0);
}

#[test]
fn this_machine_has_a_name() {
    let machine = describe();
    assert!(machine.cores > 0 && machine.memory > 1 << 28 && !machine.kernel.is_empty(), "{machine:?}");
}
