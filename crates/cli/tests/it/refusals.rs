//! What people see when something is wrong, and the exit codes scripts rely on. No server needed.

use crate::world::{failed, program, text};

fn check(words: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("bad.yaml"),
        "sequence: bad\nsteps:\n  - id: disk\n    format-dsik: {}\n",
    )
    .unwrap();
    let (code, stdout, stderr) = failed(program(folder.path(), words));
    let shown = format!("{stdout}{stderr}").replace(folder.path().to_str().unwrap(), "(folder)");
    (code, shown)
}

#[test]
fn not_logged_in_is_wrong_usage() {
    let (code, shown) = check(&["package", "list"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(shown, @r"
    error: not logged in
      cause: there is no (folder)/config.json
      hint: `forestage login URL --ca FILE` logs in; `forestage serve` prints both
    ");
}

#[test]
fn unknown_words_are_wrong_usage() {
    assert_eq!(check(&["package", "improt"]).0, 2);
    assert_eq!(
        check(&[
            "deployment",
            "create",
            "d",
            "--collection",
            "c",
            "--sequence",
            "s",
            "--expected",
            "soon"
        ])
        .0,
        2
    );
}

#[test]
fn lint_shows_place_code_and_hint() {
    let (code, shown) = check(&["sequence", "lint", "bad.yaml", "--offline"]);
    assert_eq!(code, 1);
    assert!(shown.starts_with("bad.yaml:4:"), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn a_medium_is_never_written_over_a_device() {
    let (code, shown) = check(&[
        "medium",
        "build",
        "--prestage",
        "a",
        "--output",
        "/dev/null",
    ]);
    assert_eq!(code, 3);
    assert!(
        shown.starts_with("error: /dev/null exists and is not a file\n  hint: "),
        "{shown}"
    );
}

#[test]
fn keys_are_made_once_and_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let create = ["secure-boot", "create-keys", "keys", "--name", "Ås kommune"];
    let made = text(&program(folder.path(), &create).output().unwrap().stdout);
    assert!(made.contains("CN=Debian Secure Boot CA"), "{made}");
    let key = folder.path().join("keys/db.key");
    let before = std::fs::read(&key).unwrap();
    let (code, _, stderr) = failed(program(folder.path(), &create));
    assert_eq!(code, 3);
    insta::assert_snapshot!(stderr, @r"
    error: cannot make the keys keys
      cause: keys is there already
      hint: name another, or move what is there out of the way
    ");
    assert_eq!(std::fs::read(&key).unwrap(), before);
    let half = [
        "boot-image",
        "build",
        "--agent",
        "a",
        "--output",
        "o",
        "--sign-key",
    ];
    let half = [&half[..], &["keys/db.key"]].concat();
    assert_eq!(failed(program(folder.path(), &half)).0, 2);
}

#[test]
fn missing_files_are_named() {
    for words in [
        ["os-image", "build", "none.yaml", "--output", "x.img"].as_slice(),
        &["content", "verify", "--library", "none"],
        &["sequence", "lint", "none.yaml", "--offline"],
    ] {
        let (code, shown) = check(words);
        assert_eq!(code, 1, "{shown}");
        assert!(
            shown.contains("none") && shown.contains("  cause: "),
            "{shown}"
        );
    }
}

#[test]
fn help_reads_like_a_table_of_contents() {
    let folder = tempfile::tempdir().unwrap();
    let help = program(folder.path(), &["--help"]).output().unwrap();
    assert!(help.status.success());
    insta::assert_snapshot!(text(&help.stdout));
}

#[test]
fn shells_can_complete_our_commands() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = program(folder.path(), &["completion", shell])
            .output()
            .unwrap();
        assert!(script.status.success());
        assert!(text(&script.stdout).contains("prestage"), "{shell}");
    }
}

#[test]
fn the_schema_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let schema = program(folder.path(), &["sequence", "schema"])
        .output()
        .unwrap();
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema.is_object(), "{schema}");
}
