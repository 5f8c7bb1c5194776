//! Whoever reads the output may go away, as `head` does: that is an end and no failure worth a word.

use std::process::{Command, Stdio};

#[test]
fn a_closed_output_ends_it_quietly() {
    for args in [&["completion", "bash"][..], &["complete-words", "do"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-krypton"));
        let output = command.args(args).stdin(Stdio::null()).stdout(writer).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }
}
