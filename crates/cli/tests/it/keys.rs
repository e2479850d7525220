//! A key that never meets the server: made, used and retired with the commands that people type, the private half in another
//! folder than everything that knows the server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::device;
use crate::wiring::{SEQUENCE, import_packages};
use crate::world::{World, failed, program, succeeded};

const PASSPHRASE: &str = "midnight sun over Senja";

/// A command on the computer with the key: no settings, no server.
fn offline(folder: &Path, words: &[&str], passphrase: &str) -> Command {
    let mut command = program(folder, words);
    command.env("FORESTAGE_PASSPHRASE", passphrase);
    command
}

#[test]
fn a_prestage_is_signed_where_no_server_is() {
    let world = World::start();
    let vault = tempfile::tempdir().unwrap();
    let there = |words: &[&str]| succeeded(offline(vault.path(), words, PASSPHRASE));
    let carry = |from: &Path, to: &Path| std::fs::copy(from, to).unwrap();

    // The key is made there; only its public half is carried.
    let made = there(&["trust", "make-key", "vault.key"]);
    let key = std::fs::read(vault.path().join("vault.key")).unwrap();
    assert!(key.starts_with(b"age-encryption.org/v1\n"));
    let mode = std::fs::metadata(vault.path().join("vault.key")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let public = std::fs::read_to_string(vault.path().join("vault.key.pub")).unwrap();
    assert!(made.starts_with(public.trim()), "{made}");
    let again = failed(offline(
        vault.path(),
        &["trust", "make-key", "vault.key"],
        PASSPHRASE,
    ));
    assert_eq!(again.0, 3, "{again:?}");
    let short = failed(offline(
        vault.path(),
        &["trust", "make-key", "other.key"],
        "hunter2",
    ));
    assert_eq!(short.0, 2, "{short:?}");
    carry(
        &vault.path().join("vault.key.pub"),
        &world.path("vault.key.pub"),
    );
    assert_eq!(world.fail(&["trust", "add", "vault"]).0, 2);
    world.run(&["trust", "add", "vault", "--public-key", "vault.key.pub"]);
    world.run(&["trust", "use", "vault"]);

    // A build waits.
    import_packages(&world);
    world.write("tiny.yaml", SEQUENCE);
    world.run(&["sequence", "put", "tiny.yaml"]);
    world.run(&[
        "prestage",
        "define",
        "book",
        "--sequence",
        "tiny",
        "--vendor",
        "Acme",
        "--product",
        "Book 14",
        "--extra",
        "boot-image",
    ]);
    let built = world.run(&["prestage", "build", "book"]);
    assert!(built.contains("waits for its signature"), "{built}");
    let medium = [
        "medium",
        "build",
        "--prestage",
        "book",
        "--output",
        "stick.img",
    ];
    let (code, _, said) = world.fail(&medium);
    assert!(
        code == 1 && said.contains("book@1 waits for its signature"),
        "{said}"
    );
    assert!(!world.path("stick.img").exists());

    // Signed there, after it was shown.
    world.run(&["prestage", "root", "book@1", "--output", "book.root"]);
    carry(&world.path("book.root"), &vault.path().join("book.root"));
    let sign = |root| {
        [
            "prestage",
            "sign",
            root,
            "--key",
            "vault.key",
            "--output",
            "book.signature",
            "--yes",
        ]
    };
    let output = offline(vault.path(), &sign("book.root"), PASSPHRASE)
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{shown}");
    for told in [
        "book@1 for Acme Book 14",
        "tiny-os",
        "boot-image",
        "format-disk",
        "\"with\": {",
    ] {
        assert!(shown.contains(told), "{told} in {shown}");
    }
    let wrong = failed(offline(
        vault.path(),
        &sign("book.root"),
        "not this one at all",
    ));
    assert!(
        wrong.0 == 1 && wrong.2.contains("passphrase is wrong"),
        "{wrong:?}"
    );
    let mut over_the_key = sign("book.root");
    over_the_key[6] = "vault.key";
    let refused = failed(offline(vault.path(), &over_the_key, PASSPHRASE));
    assert!(
        refused.0 == 1 && refused.2.contains("isn't there yet"),
        "{refused:?}"
    );
    let unasked = &sign("book.root")[..7];
    assert_eq!(failed(offline(vault.path(), unasked, PASSPHRASE)).0, 2);
    let mut altered = std::fs::read_to_string(vault.path().join("book.root")).unwrap();
    altered.insert_str(1, "\"hidden\":1,");
    std::fs::write(vault.path().join("altered.root"), altered).unwrap();
    let refused = failed(offline(vault.path(), &sign("altered.root"), PASSPHRASE));
    assert!(
        refused.0 == 1 && refused.2.contains("doesn't know"),
        "{refused:?}"
    );
    carry(
        &vault.path().join("book.signature"),
        &world.path("book.signature"),
    );
    world.run(&["prestage", "add-signature", "book@1", "book.signature"]);
    world.run(&medium);

    // Retired: a medium isn't made of what it signed.
    world.run(&["trust", "add", "next", "--on-server"]);
    world.run(&["trust", "use", "next"]);
    assert_eq!(world.fail(&["trust", "retire", "vault"]).0, 2);
    let retired = world.run(&["trust", "retire", "vault", "--yes"]);
    assert!(retired.contains("built or signed anew: 1"), "{retired}");
    let (code, _, said) = world.fail(&medium);
    assert!(
        code == 3 && said.contains("signed with the key vault, which is retired"),
        "{said}"
    );
    let listed = world.run(&["trust", "list"]);
    assert!(
        listed.contains("vault") && listed.contains("retired"),
        "{listed}"
    );
    let listed = world.run(&["prestage", "list"]);
    assert!(listed.contains("vault (retired)"), "{listed}");
}

#[test]
fn warrants_are_signed_where_no_server_is() {
    let world = World::start();
    let vault = tempfile::tempdir().unwrap();
    let there = |words: &[&str]| succeeded(offline(vault.path(), words, PASSPHRASE));
    let carry = |name: &str| std::fs::copy(world.path(name), vault.path().join(name)).unwrap();
    let bring = |name: &str| std::fs::copy(vault.path().join(name), world.path(name)).unwrap();
    let status = |name: &str| world.run(&["deployment", "status", name]);

    // Without a wipe key nothing is said of warrants, and it is said what that means.
    device::start(&world).finish();
    assert!(!status("autumn").contains("warrant"));
    assert!(
        world
            .run(&["trust", "show"])
            .contains("the server alone decides")
    );
    there(&["trust", "make-key", "wipe.key"]);
    bring("wipe.key.pub");
    let add = ["trust", "add", "wipe", "--wipe"];
    assert_eq!(world.fail(&add).0, 2);
    assert_eq!(world.fail(&[&add[..], &["--on-server"]].concat()).0, 2);
    world.run(&[&add[..], &["--public-key", "wipe.key.pub"]].concat());
    let listed = world.run(&["trust", "list"]);
    assert!(listed.contains("warrants"), "{listed}");
    let (code, _, said) = world.fail(&["trust", "use", "wipe"]);
    assert!(code == 1 && said.contains("signs warrants"), "{said}");

    world.run(&["asset", "import", "assets.csv", "--collection", "pupils"]);
    world.run(&[
        "deployment",
        "create",
        "winter",
        "--collection",
        "pupils",
        "--sequence",
        "tiny",
        "--cap",
        "3",
        "--confirm",
        "winter 1",
    ]);
    let said = status("winter");
    assert!(said.contains("0 with a warrant, 1 without"), "{said}");
    let request = ["warrant", "request", "winter", "--output"];
    world.run(&[&request[..], &["winter.request"]].concat());
    carry("winter.request");

    // Signed there, after it was shown.
    let sign = |request| {
        [
            "warrant",
            "sign",
            request,
            "--key",
            "wipe.key",
            "--output",
            "winter.warrants",
            "--yes",
        ]
    };
    let unasked = &sign("winter.request")[..7];
    assert_eq!(failed(offline(vault.path(), unasked, PASSPHRASE)).0, 2);
    let shown = offline(vault.path(), &sign("winter.request"), PASSPHRASE)
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stderr).unwrap();
    for told in ["Deployment winter", "1 machines", "Bjørnsletta", "PF1"] {
        assert!(shown.contains(told), "{told} in {shown}");
    }
    let mut altered = std::fs::read_to_string(vault.path().join("winter.request")).unwrap();
    altered.insert_str(1, "\"until\":1,");
    std::fs::write(vault.path().join("altered.request"), altered).unwrap();
    let refused = failed(offline(vault.path(), &sign("altered.request"), PASSPHRASE));
    assert!(
        refused.0 == 1 && refused.2.contains("no request for warrants"),
        "{refused:?}"
    );
    bring("winter.warrants");
    let said = world.run(&["warrant", "add", "winter.warrants"]);
    assert!(said.contains("1 machines have a warrant now"), "{said}");
    let said = status("winter");
    assert!(said.contains("1 with a warrant, 0 without"), "{said}");
    // There is nothing left to sign.
    let said = world.run(&[&request[..], &["again.request"]].concat());
    assert!(said.contains("nothing was written"), "{said}");
    assert!(!world.path("again.request").exists());
}
