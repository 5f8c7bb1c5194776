//! The program as its users start and stop it.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use tempfile::TempDir;

/// A running controller; killed when dropped, so that a failed test leaves nothing behind.
struct Controller(Child);

impl Controller {
    fn start(args: &[&str]) -> (Self, BufReader<ChildStdout>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_krypton-controller"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        (Self(child), stdout)
    }

    fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([name, &self.0.id().to_string()]).status().expect("kill is there");
        assert!(sent.success());
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_krypton-controller"));
    command.args(args).env("RUST_BACKTRACE", "1").output().expect("the program starts")
}

#[test]
fn it_says_where_it_listens_and_ends_well_on_a_signal() {
    let folder = TempDir::new().unwrap();
    let folder = folder.path().to_str().unwrap();
    for signal in ["-TERM", "-INT"] {
        let args =
            ["--manifests", folder, "--discovery-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let (mut controller, stdout) = Controller::start(&args);
        let lines: Vec<String> = stdout.lines().take(2).map(Result::unwrap).collect();
        assert!(lines[0].starts_with("listening discovery=127.0.0.1:"), "{lines:?}");
        assert!(lines[1].starts_with("listening admin=127.0.0.1:"), "{lines:?}");
        controller.signal(signal);
        assert_eq!(controller.0.wait().unwrap().code(), Some(0), "{signal}");
    }
}

#[test]
fn what_cannot_start_says_why_and_exits_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let folder = TempDir::new().unwrap();
    let args = ["--manifests", folder.path().to_str().unwrap(), "--discovery-listen", &taken];
    let output = run(&args);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let expected = format!("krypton-controller: --discovery-listen {taken} cannot be listened on");
    assert!(stderr.starts_with(&expected) && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn wrong_flags_exit_with_2() {
    let output = run(&["--manifests", "d", "--namespace", "a"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot be used with"));
}
