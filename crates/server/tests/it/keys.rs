//! Keys that change: from the first one to one that is kept elsewhere, as a fleet sees it whose boot images were built at
//! different times. What a boot image believes is what the server said when it was built.

use std::io::{Cursor, Read as _};

use client::Client;
use content::{Bundle, ContentError, sign_root};
use ed25519_dalek::{SigningKey, VerifyingKey};
use wire::admin_api::PrestageVersion;
use wire::boot_config::Trust;
use wire::bundle::BundleSignature;
use wire::device_api::Staged;
use wire::keys::{KeyPlace, KeyPurpose, KeyRow, KeyState, NewKey, PublicKey, SignatureState};
use wire::names::{KeyName, PrestageName};

use crate::admin::refusal;
use crate::harness::{Machine, Site};

fn name(text: &str) -> KeyName {
    text.parse().unwrap()
}

fn public_half(key: &SigningKey) -> PublicKey {
    PublicKey::from_bytes(key.verifying_key().as_bytes())
}

/// What a boot image that is built now will believe.
fn boot_image(site: &Site) -> Vec<VerifyingKey> {
    let trust: Trust = site.server.anyone().trust().unwrap();
    let keys = trust.bundle_keys.iter().map(|text| {
        let key: PublicKey = text.parse().unwrap();
        VerifyingKey::from_bytes(key.as_bytes()).unwrap()
    });
    keys.collect()
}

fn fetch(
    client: &Client,
    name: &PrestageName,
    version: u32,
) -> Result<Vec<u8>, client::ClientError> {
    let mut bytes = Vec::new();
    let (mut stream, _) = client.download_bundle(name, version, 0)?;
    stream.read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

/// Whether a boot image takes a bundle.
fn takes(image: &[VerifyingKey], bundle: &[u8]) -> bool {
    let opened = Bundle::open(Cursor::new(bundle.to_vec()), bundle.len() as u64).unwrap();
    match opened.verify(image) {
        Ok(_) => true,
        Err(ContentError::UnknownKey { .. }) => false,
        Err(other) => panic!("{other:?}"),
    }
}

fn root(site: &Site, name: &PrestageName, version: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut stream, _) = site.admin.bundle_root(name, version).unwrap();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

fn add(site: &Site, called: &str, public_key: Option<PublicKey>) -> KeyRow {
    let new = NewKey {
        name: name(called),
        purpose: KeyPurpose::Bundle,
        public_key,
    };
    site.admin.add_key(&new).unwrap()
}

fn states(versions: &[PrestageVersion]) -> Vec<(u32, SignatureState)> {
    versions
        .iter()
        .map(|version| (version.version, version.signed.state))
        .collect()
}

#[test]
fn keys_change_while_a_fleet_is_staged() {
    let site = Site::new();
    site.prepare(10);
    site.import("serial;class\nPF1;8B\nPF2;8B\n");
    let book = site.define_prestage();
    let vault = SigningKey::from_bytes(&[42; 32]);

    // One key, as ever.
    let june = boot_image(&site);
    let first = site.admin.build_prestage(&book).unwrap();
    assert_eq!(first.signed.key, Some(name("server")));
    let one = fetch(&site.admin, &book, 1).unwrap();

    // Both are believed by a boot image that is built in between, whichever signs.
    let row = add(&site, "vault", Some(public_half(&vault)));
    assert_eq!(
        (row.state, row.place),
        (KeyState::Trusted, KeyPlace::Elsewhere)
    );
    let july = boot_image(&site);
    site.admin.build_prestage(&book).unwrap();
    let two = fetch(&site.admin, &book, 2).unwrap();

    // From now on a build waits, and nobody gets it before it is signed.
    assert_eq!(
        site.admin.use_key(&name("vault")).unwrap().state,
        KeyState::Signing
    );
    let third = site.admin.build_prestage(&book).unwrap();
    assert_eq!(third.signed.state, SignatureState::Waiting);
    assert_eq!(
        refusal(fetch(&site.admin, &book, 3)),
        (409, "unsigned".to_owned())
    );
    let signature = sign_root(&root(&site, &book, 3), &vault);
    let signed = site.admin.sign_bundle(&book, 3, &signature).unwrap();
    assert_eq!(
        (signed.signed.state, signed.bundle),
        (SignatureState::Good, third.bundle)
    );
    let three = fetch(&site.admin, &book, 3).unwrap();
    assert_eq!(three.len() as u64, third.bundle_bytes);

    // The overlap: the old boot image takes the old, the one in between takes all.
    let taken = |image: &[VerifyingKey]| [&one, &two, &three].map(|bundle| takes(image, bundle));
    assert_eq!(taken(&june), [true, true, false]);
    assert_eq!(taken(&july), [true, true, true]);

    // Retired: what it signed is refused by boot images of today, and is shown as such.
    site.receipt("PF1", 1, "staged");
    let staged = Staged {
        prestage: book.clone(),
        version: 2,
        bundle: site.admin.prestages().unwrap()[1].bundle,
    };
    let mut machine = Machine::new("PF2");
    machine.staged = Some(staged);
    machine.check_in(&site);
    assert_eq!(site.device("PF1").retired_key, None);
    let private = site.data.join("keys/bundle.key");
    assert!(private.exists());
    let retired = site.admin.retire_key(&name("server")).unwrap();
    assert_eq!(
        (retired.state, retired.place),
        (KeyState::Retired, KeyPlace::Removed)
    );
    // PF2 has begun to run by now: it has what this server gave it.
    assert_eq!((retired.bundles, retired.staged), (2, 1));
    assert!(!private.exists(), "a retired key is gone");
    let august = boot_image(&site);
    assert_eq!(taken(&august), [false, false, true]);
    for serial in ["PF1", "PF2"] {
        assert_eq!(
            site.device(serial).retired_key,
            Some(name("server")),
            "{serial}"
        );
    }
    let versions = site.admin.prestages().unwrap();
    let [good, retired] = [SignatureState::Good, SignatureState::Retired];
    assert_eq!(states(&versions), [(3, good), (2, retired), (1, retired)]);
    assert_eq!(
        refusal(fetch(&site.admin, &book, 1)),
        (409, "retired-key".to_owned())
    );

    // What it signed is signed anew, and is the same bundle but for its head.
    let again = sign_root(&root(&site, &book, 1), &vault);
    site.admin.sign_bundle(&book, 1, &again).unwrap();
    let anew = fetch(&site.admin, &book, 1).unwrap();
    assert!(takes(&august, &anew));
    assert_eq!((&anew[..16], &anew[88..]), (&one[..16], &one[88..]));
    assert_eq!(site.device("PF1").retired_key, None);

    // All of it outlives a restart; the old key doesn't come back.
    let site = site.restart();
    assert_eq!(boot_image(&site), august);
    assert!(!private.exists());
    let fourth = site.admin.build_prestage(&book).unwrap();
    assert_eq!(fourth.signed.state, SignatureState::Waiting);
    let audit = site
        .admin
        .get::<serde_json::Value>("/api/v1/audit")
        .unwrap();
    for action in ["key-added", "key-used", "key-retired", "prestage-signed"] {
        assert!(audit.to_string().contains(action), "{action}");
    }
}

#[test]
fn a_signature_counts_only_if_all_of_it_is_right() {
    let site = Site::new();
    site.prepare(10);
    let book = site.define_prestage();
    let (vault, stranger) = (
        SigningKey::from_bytes(&[42; 32]),
        SigningKey::from_bytes(&[43; 32]),
    );
    add(&site, "vault", Some(public_half(&vault)));
    let retired = SigningKey::from_bytes(&[44; 32]);
    add(&site, "retired", Some(public_half(&retired)));
    site.admin.retire_key(&name("retired")).unwrap();
    site.admin.use_key(&name("vault")).unwrap();
    site.admin.build_prestage(&book).unwrap();
    site.admin.build_prestage(&book).unwrap();
    let bytes = root(&site, &book, 1);
    let good = sign_root(&bytes, &vault);
    let in_our_name = BundleSignature {
        key: good.key,
        ..sign_root(&bytes, &stranger)
    };
    let of_the_other = sign_root(&root(&site, &book, 2), &vault);
    let renamed = BundleSignature {
        root: good.root,
        ..of_the_other
    };
    for (signature, code) in [
        (sign_root(&bytes, &stranger), "unknown-key"),
        (sign_root(&bytes, &retired), "retired-key"),
        (in_our_name, "bad-signature"),
        (of_the_other, "other-bundle"),
        (renamed, "bad-signature"),
    ] {
        let refused = site.admin.sign_bundle(&book, 1, &signature);
        assert_eq!(refusal(refused), (422, code.to_owned()));
    }
    let newer = BundleSignature { format: 2, ..good };
    let refused = refusal(site.admin.sign_bundle(&book, 1, &newer));
    assert_eq!(refused, (400, "bad-signature".to_owned()));
    assert_eq!(refusal(fetch(&site.admin, &book, 1)).1, "unsigned");
    // The same twice is the same.
    for _ in 0..2 {
        site.admin.sign_bundle(&book, 1, &good).unwrap();
        fetch(&site.admin, &book, 1).unwrap();
    }
    assert_eq!(refusal(site.admin.sign_bundle(&book, 9, &good)).0, 404);
}

#[test]
fn a_key_is_added_once_signs_alone_and_is_never_taken_from_under_a_build() {
    let site = Site::new();
    let code = |result: Result<KeyRow, _>| refusal(result);
    let new = |called: &str, public_key| NewKey {
        name: name(called),
        purpose: KeyPurpose::Bundle,
        public_key,
    };
    let vault = public_half(&SigningKey::from_bytes(&[42; 32]));
    site.admin.add_key(&new("vault", Some(vault))).unwrap();
    let add = |new: &NewKey| site.admin.add_key(new);
    assert_eq!(code(add(&new("vault", None))), (409, "key-exists".into()));
    assert_eq!(
        code(add(&new("again", Some(vault)))),
        (409, "key-exists".into())
    );
    let mut small_order = [0; 32];
    small_order[0] = 1;
    for bytes in [[0; 32], small_order, [0xff; 32]] {
        let weak = Some(PublicKey::from_bytes(&bytes));
        assert_eq!(
            code(add(&new("weak", weak))),
            (400, "bad-public-key".into())
        );
    }
    assert_eq!(
        code(site.admin.retire_key(&name("server"))),
        (409, "signing-key".into())
    );
    assert_eq!(code(site.admin.use_key(&name("none"))).0, 404);
    // A second key of the server's own.
    let own = site.admin.add_key(&new("server-2", None)).unwrap();
    assert_eq!(own.place, KeyPlace::Server);
    site.admin.use_key(&name("server-2")).unwrap();
    site.admin.retire_key(&name("server")).unwrap();
    site.admin.retire_key(&name("vault")).unwrap();
    assert_eq!(
        code(site.admin.use_key(&name("vault"))),
        (409, "retired-key".into())
    );
    assert_eq!(
        code(add(&new("vault-3", Some(vault)))),
        (409, "key-exists".into())
    );
    let rows = site.admin.keys().unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (row.name.as_str(), row.state))
        .collect();
    let expected = [
        ("server", KeyState::Retired),
        ("vault", KeyState::Retired),
        ("server-2", KeyState::Signing),
    ];
    assert_eq!(rows, expected);
    site.prepare(10);
    let book = site.define_prestage();
    let built = site.admin.build_prestage(&book).unwrap();
    assert_eq!(built.signed.key, Some(name("server-2")));
    // A private half that was lost or swapped signs nothing.
    std::fs::write(site.data.join("keys/bundle-server-2.key"), "ab".repeat(32)).unwrap();
    assert_eq!(refusal(site.admin.build_prestage(&book)).0, 500);
}

#[test]
fn the_key_of_an_earlier_release_is_taken_over_with_what_it_signed() {
    let site = Site::on(None);
    site.prepare(10);
    let book = site.define_prestage();
    site.admin.build_prestage(&book).unwrap();
    let before = boot_image(&site);
    // As the update of the database leaves it: no key has a name yet, and nobody is noted as signer.
    let output = std::process::Command::new("sqlite3")
        .arg(site.data.join("forestage.db"))
        .arg("DELETE FROM signing_keys; UPDATE prestage_versions SET signer = '';")
        .output()
        .expect("this needs sqlite3: `apt-get install sqlite3`, or `cargo xtask setup`");
    assert!(output.status.success(), "{output:?}");
    let site = site.restart();
    assert_eq!(boot_image(&site), before);
    let [row] = &site.admin.keys().unwrap()[..] else {
        panic!("one key");
    };
    assert_eq!(
        (row.name.as_str(), row.state, row.bundles),
        ("server", KeyState::Signing, 1)
    );
    let built = &site.admin.prestages().unwrap()[0];
    assert_eq!(built.signed.key, Some(name("server")));
    assert!(takes(&before, &fetch(&site.admin, &book, 1).unwrap()));
}

#[test]
fn a_file_that_is_not_what_was_built_is_neither_shown_nor_signed() {
    let site = Site::new();
    site.prepare(10);
    let book = site.define_prestage();
    let vault = SigningKey::from_bytes(&[42; 32]);
    add(&site, "vault", Some(public_half(&vault)));
    site.admin.use_key(&name("vault")).unwrap();
    let file = |version: u32, ending| {
        let bundles = site.data.join("bundles");
        bundles.join(format!("{book}@{version}.{ending}"))
    };
    // What a build left that was cut off before anybody knew of it.
    std::fs::write(file(1, "bundle"), "another").unwrap();
    site.admin.build_prestage(&book).unwrap();
    assert!(file(1, "unsigned").exists() && !file(1, "bundle").exists());
    site.admin.use_key(&name("server")).unwrap();
    std::fs::write(file(2, "unsigned"), "another").unwrap();
    site.admin.build_prestage(&book).unwrap();
    assert!(file(2, "bundle").exists() && !file(2, "unsigned").exists());
    // A bundle in the place of another.
    let good = sign_root(&root(&site, &book, 1), &vault);
    let of_the_other = sign_root(&root(&site, &book, 2), &vault);
    std::fs::copy(file(2, "bundle"), file(1, "unsigned")).unwrap();
    for signature in [&good, &of_the_other] {
        assert_eq!(refusal(site.admin.sign_bundle(&book, 1, signature)).0, 500);
    }
    assert_eq!(refusal(site.admin.bundle_root(&book, 1).map(|_| ())).0, 500);
    assert_eq!(refusal(fetch(&site.admin, &book, 1)).1, "unsigned");
}

#[test]
fn a_retirement_that_was_cut_off_ends_when_the_server_starts() {
    let site = Site::new();
    add(&site, "second", None);
    site.admin.use_key(&name("second")).unwrap();
    let private = site.data.join("keys/bundle.key");
    site.run_sql(
        "UPDATE signing_keys SET state = 'retired', retired_at_ms = 1 WHERE name = 'server'",
    );
    assert!(private.exists());
    let site = site.restart();
    let row = site.admin.keys().unwrap().remove(0);
    assert_eq!(
        (row.name, row.state, row.place),
        (name("server"), KeyState::Retired, KeyPlace::Removed)
    );
    assert!(!private.exists());
    assert!(site.data.join("keys/bundle-second.key").exists());
}

#[test]
fn nobody_waits_for_a_retired_key() {
    let site = Site::new();
    site.prepare(10);
    let book = site.define_prestage();
    let vault = public_half(&SigningKey::from_bytes(&[42; 32]));
    add(&site, "vault", Some(vault));
    site.admin.use_key(&name("vault")).unwrap();
    let built = site.admin.build_prestage(&book).unwrap();
    assert_eq!(built.signed.key, Some(name("vault")));
    site.admin.use_key(&name("server")).unwrap();
    site.admin.retire_key(&name("vault")).unwrap();
    let waiting = site.admin.prestages().unwrap().remove(0).signed;
    assert_eq!(
        (waiting.state, waiting.key),
        (SignatureState::Waiting, None)
    );
}
