//! The program as its users start it.

use std::net::TcpListener;
use std::process::Command;

/// Also for who wants backtraces of panics.
#[test]
fn a_port_that_is_taken_is_told_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for flags in [
        ["--listen", &taken, "--admin-listen", "127.0.0.1:0"],
        ["--listen", "127.0.0.1:0", "--admin-listen", &taken],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_krypton-gateway"))
            .args(flags)
            .env("RUST_BACKTRACE", "1")
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
        assert!(told.contains(&format!("cannot listen on {taken}: ")), "{told}");
    }
}
