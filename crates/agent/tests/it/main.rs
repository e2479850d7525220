//! The program as it is started: by people, and by itself to enter a chroot.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forestage-agent"))
        .args(args)
        .output()
        .expect("the program starts")
}

#[test]
fn people_can_ask_for_version_and_facts() {
    let text = String::from_utf8(run(&["--version"]).stdout).unwrap();
    assert_eq!(
        text.trim(),
        format!("forestage-agent {}", env!("CARGO_PKG_VERSION"))
    );
    let facts: wire::facts::Facts = serde_json::from_slice(&run(&["facts"]).stdout).unwrap();
    assert!(facts.memory_bytes > 0);
}

#[test]
fn anything_else_is_refused() {
    for args in [&[][..], &["stage"], &["deploy", "--yes"]] {
        assert_eq!(run(args).status.code(), Some(2));
    }
}

#[test]
fn a_program_runs_in_its_folder_with_its_arguments_as_data() {
    let output = run(&[
        "chroot-exec",
        "/",
        "/tmp",
        "--",
        "sh",
        "-c",
        "pwd; printf '%s' \"$1\"; exit 7",
        "sh",
        "$(x) *",
    ]);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "/tmp\n$(x) *");
}

#[test]
fn a_program_that_is_not_there_is_said_so() {
    let output = run(&["chroot-exec", "/", "/", "--", "no-such-program-here"]);
    assert_eq!(output.status.code(), Some(127));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("no-such-program-here")
    );
    assert_eq!(run(&["chroot-exec", "/"]).status.code(), Some(127));
}
