use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use super::lists::tests::encode;
use super::*;
use crate::altered_bundles::medium;
use crate::machine::boot;
use crate::machine::made_of_files::FileMachine;
use crate::test_bundle::{TestBundle, trust};

const NEEDS: &str = "this test needs apt-get install openssl sbsigntool";

/// Keys with certificates (`NAME.key`, `NAME.pem`): `ours` and `theirs` stand alone, `leaf` is issued by `ca`.
static KEYS: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ours", "theirs", "ca", "leaf"] {
        let (key, out) = (format!("{name}.key"), format!("{name}.pem"));
        let subject = format!("/O=Forestage/CN=Ås {name}");
        let request = [
            "req", "-new", "-x509", "-noenc", "-utf8", "-newkey", "rsa:2048", "-keyout", &key,
            "-out", &out, "-subj", &subject,
        ];
        let issued: &[&str] = match name {
            "leaf" => &["-CA", "ca.pem", "-CAkey", "ca.key"],
            _ => &[],
        };
        run(&folder, "openssl", &[&request[..], issued].concat());
    }
    folder
});

fn run(folder: &tempfile::TempDir, program: &str, words: &[&str]) {
    let output = Command::new(program)
        .current_dir(folder.path())
        .args(words)
        .output();
    let output = output.expect(NEEDS);
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
}

fn certificate(name: &str) -> Vec<u8> {
    let pem = KEYS.path().join(format!("{name}.pem"));
    let output = Command::new("openssl")
        .args(["x509", "-outform", "der", "-in"])
        .arg(pem)
        .output();
    output.expect(NEEDS).stdout
}

/// A program for UEFI that does nothing: two sections, a gap between them if `gap` is more than 0, data behind.
fn plain(gap: usize) -> Vec<u8> {
    let (pe, optional) = (0x80, 0x98);
    let table = optional + 240;
    let mut image = vec![0; 0x400];
    image[..2].copy_from_slice(b"MZ");
    image[0x3c] = 0x80;
    image[pe..pe + 4].copy_from_slice(b"PE\0\0");
    let mut put = |at: usize, value: usize, length: usize| {
        image[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    };
    put(pe + 4, 0x8664, 2);
    put(pe + 6, 2, 2);
    put(pe + 20, 240, 2);
    put(optional, 0x20b, 2);
    put(optional + 32, 0x200, 4);
    put(optional + 36, 0x200, 4);
    put(optional + 56, 0x3000, 4);
    put(optional + 60, 0x400, 4);
    put(optional + 108, 16, 4);
    for (number, at) in [(0, 0x400), (1, 0x600 + gap)] {
        let row = table + number * SECTION;
        put(row + 8, 0x200, 4);
        put(row + 12, 0x1000 * (number + 1), 4);
        put(row + 16, 0x200, 4);
        put(row + 20, at, 4);
    }
    image.extend_from_slice(&[0x90; 0x200]);
    image.resize(image.len() + gap, 1);
    image.extend_from_slice(&[0x91; 0x200]);
    image.extend_from_slice(&[0x92; 64]);
    image
}
const SECTION: usize = 40;

/// The image, signed with the key of this name.
fn signed(image: &[u8], name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(file("plain"), image).unwrap();
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let words = [
        "--key",
        &key,
        "--cert",
        &certificate,
        "--output",
        &file("signed"),
        &file("plain"),
    ];
    run(&KEYS, "sbsign", &words);
    fs::read(file("signed")).unwrap()
}

fn of(name: &str) -> Entry {
    Entry::Certificate(certificate(name))
}

fn digest_of(name: &str) -> Entry {
    Entry::CertificateDigest(Certificate::parse(&certificate(name)).unwrap().digest())
}

fn image_of(image: &[u8]) -> Entry {
    Entry::Image(Image::parse(image).unwrap().digest)
}

fn objection(db: &[Entry], dbx: &[Entry], image: &[u8]) -> Option<String> {
    let (db, dbx) = (db.to_vec(), dbx.to_vec());
    Lists { db, dbx }.objection(image)
}

#[test]
fn what_starts_is_signed_by_someone_in_db_and_named_by_nobody_in_dbx() {
    let image = plain(0);
    let ours = signed(&image, "ours");
    let leaf = signed(&image, "leaf");
    for (what, db, dbx, image) in [
        ("the signer is in db", vec![of("ours")], vec![], &ours),
        (
            "among others",
            vec![of("theirs"), of("ours")],
            vec![of("theirs")],
            &ours,
        ),
        ("whoever issued it is in db", vec![of("ca")], vec![], &leaf),
        ("the signer alone is in db", vec![of("leaf")], vec![], &leaf),
        (
            "its digest is in db",
            vec![image_of(&image)],
            vec![],
            &image,
        ),
        (
            "its digest is in db, whoever signed it",
            vec![image_of(&image)],
            vec![],
            &ours,
        ),
        (
            "of its namesake",
            vec![of("ours")],
            vec![Entry::Image([0; 32])],
            &ours,
        ),
    ] {
        assert_eq!(objection(&db, &dbx, image), None, "{what}");
    }
    let withdrawn =
        |name: &str| format!("the firmware's dbx names the certificate {name}: it was withdrawn");
    let foreign = |name: &str| {
        format!("it is signed by {name}, and no certificate in the firmware's db vouches for that")
    };
    let named = "the firmware's dbx names it: it was withdrawn".to_owned();
    for (db, dbx, image, why) in [
        (vec![], vec![], &ours, foreign("Ås ours")),
        (
            vec![of("theirs"), of("ca")],
            vec![],
            &ours,
            foreign("Ås ours"),
        ),
        (vec![of("theirs")], vec![], &leaf, foreign("Ås leaf")),
        (vec![of("ours")], vec![], &image, "it isn't signed".into()),
        (
            vec![of("ours")],
            vec![image_of(&image)],
            &ours,
            named.clone(),
        ),
        (
            vec![image_of(&image)],
            vec![image_of(&image)],
            &image,
            named,
        ),
        (
            vec![of("ours")],
            vec![of("ours")],
            &ours,
            withdrawn("Ås ours"),
        ),
        (
            vec![of("ours")],
            vec![digest_of("ours")],
            &ours,
            withdrawn("Ås ours"),
        ),
        (
            vec![of("ca")],
            vec![of("leaf")],
            &leaf,
            withdrawn("Ås leaf"),
        ),
        (vec![of("leaf")], vec![of("ca")], &leaf, withdrawn("Ås ca")),
        (
            vec![of("ca")],
            vec![digest_of("ca")],
            &leaf,
            withdrawn("Ås ca"),
        ),
        (
            vec![of("ca")],
            vec![digest_of("leaf")],
            &leaf,
            withdrawn("Ås leaf"),
        ),
        (
            vec![image_of(&image)],
            vec![of("ours")],
            &ours,
            withdrawn("Ås ours"),
        ),
    ] {
        assert_eq!(objection(&db, &dbx, image), Some(why));
    }
}

#[test]
fn two_signatures_are_two_chances() {
    let both = signed(&signed(&plain(0), "theirs"), "ours");
    assert_eq!(Image::parse(&both).unwrap().signatures.len(), 2);
    for name in ["ours", "theirs"] {
        assert_eq!(objection(&[of(name)], &[], &both), None, "{name}");
    }
    assert!(objection(&[of("ours")], &[of("theirs")], &both).is_some());
}

#[test]
fn gaps_and_data_behind_are_signed_too() {
    for gap in [0, 0x200, 0x1000] {
        let image = signed(&plain(gap), "ours");
        assert_eq!(objection(&[of("ours")], &[], &image), None, "{gap}");
    }
}

#[test]
fn no_altered_byte_starts() {
    let (image, db) = (plain(0), [of("ours")]);
    let good = signed(&image, "ours");
    let entry = 0x98 + 112 + 4 * 8;
    // Signing changes these two, so firmware leaves them out; whatever they say is checked in other ways.
    let is_left_out =
        |at: &usize| (0x98 + 64..0x98 + 68).contains(at) || (entry..entry + 8).contains(at);
    let table_at = image.len().next_multiple_of(8);
    for at in (0..table_at).filter(|at| !is_left_out(at)) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        let why = objection(&db, &[], &bad);
        assert!(why.is_some(), "byte {at} of the image");
    }
    // At the end is what RSA made, 256 bytes; behind it are zeros up to a multiple of eight.
    let whole = der::Reader(&good[table_at + 8..]).any().unwrap().whole;
    let end = table_at + 8 + whole.len();
    for at in end - 256..end {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        assert!(
            objection(&db, &[], &bad).is_some(),
            "byte {at} of the signature"
        );
    }
    assert!(
        objection(&db, &[], &image).is_some_and(|why| why == "it isn't signed"),
        "and none without a signature"
    );
}

/// Puts a variable where the kernel shows it.
fn put(machine: &FileMachine, name: &str, guid: &str, value: &[u8]) {
    let folder = machine.volumes().kernel.sys.join("firmware/efi/efivars");
    fs::create_dir_all(&folder).unwrap();
    let value = [&[6, 0, 0, 0], value].concat();
    fs::write(folder.join(format!("{name}-{guid}")), value).unwrap();
}

/// A machine whose firmware has these lists.
fn machine(enforced: bool, setup: bool, db: &[Entry], dbx: &[Entry]) -> FileMachine {
    let machine = FileMachine::new();
    put(&machine, "SecureBoot", GLOBAL, &[enforced.into()]);
    put(&machine, "SetupMode", GLOBAL, &[setup.into()]);
    put(&machine, "db", DATABASE, &encode(db));
    put(&machine, "dbx", DATABASE, &encode(dbx));
    machine
}

fn signed_bundle() -> TestBundle {
    TestBundle::with_boot_files(5, [signed(&plain(0), "ours"), signed(&plain(64), "ours")])
}

#[test]
fn what_would_not_start_is_refused_before_the_first_write() {
    let bundle = signed_bundle();
    let deploy = image_of(&plain(0));
    let unsigned = TestBundle::new(5);
    for (what, db, dbx, bundle) in [
        ("another's key", vec![of("theirs")], vec![], &bundle),
        (
            "one file withdrawn",
            vec![of("ours")],
            vec![deploy],
            &bundle,
        ),
        ("not signed", vec![of("ours")], vec![], &unsigned),
    ] {
        let machine = machine(true, false, &db, &dbx);
        let (staged, known) = machine.stage_and_tell(medium(&bundle.bytes), &trust());
        let errors = staged.unwrap_err();
        assert!(
            errors[0].starts_with("Secure Boot is on, and the firmware would not start "),
            "{what}: {errors:?}"
        );
        assert!(errors[0].contains("deploy.efi: "), "{what}: {errors:?}");
        let receipt = known.ending.secure_boot.expect("the receipt says it");
        assert_eq!(receipt.state, SecureBootState::Enforced);
        assert!(!receipt.refuses.is_empty(), "{what}");
        assert_eq!(machine.written(), Vec::<String>::new(), "{what}");
    }
}

#[test]
fn lists_that_contradict_themselves_start_nothing() {
    let machine = machine(true, false, &[of("ours")], &[]);
    put(&machine, "dbx", DATABASE, b"nonsense");
    let bundle = signed_bundle();
    let errors = machine.stage(medium(&bundle.bytes), &trust()).unwrap_err();
    assert!(
        errors[0].contains("cannot read the firmware's dbx"),
        "{errors:?}"
    );
    assert_eq!(machine.written(), Vec::<String>::new());
}

#[test]
fn what_would_start_is_staged_and_what_would_not_if_it_were_on_is_said() {
    let ours = signed_bundle();
    let unsigned = TestBundle::new(5);
    for (enforced, setup, db, bundle, state, refused) in [
        (
            true,
            false,
            vec![of("ours")],
            &ours,
            SecureBootState::Enforced,
            0,
        ),
        (
            false,
            false,
            vec![of("ours")],
            &ours,
            SecureBootState::Off,
            0,
        ),
        (
            false,
            false,
            vec![of("theirs")],
            &ours,
            SecureBootState::Off,
            2,
        ),
        (
            false,
            false,
            vec![of("ours")],
            &unsigned,
            SecureBootState::Off,
            2,
        ),
        (
            false,
            true,
            vec![],
            &unsigned,
            SecureBootState::SetupMode,
            0,
        ),
    ] {
        let machine = machine(enforced, setup, &db, &[]);
        let (staged, known) = machine.stage_and_tell(medium(&bundle.bytes), &trust());
        staged.expect("it is staged");
        bundle.assert_staged(&machine, "Secure Boot");
        let receipt = known.ending.secure_boot.expect("the receipt says it");
        assert_eq!((receipt.state, receipt.refuses.len()), (state, refused));
    }
    let machine = FileMachine::new();
    let (staged, known) = machine.stage_and_tell(medium(&unsigned.bytes), &trust());
    staged.expect("firmware without Secure Boot");
    assert_eq!(known.ending.secure_boot, None);
}

#[test]
fn an_update_that_would_not_start_leaves_the_boot_image_that_is_there() {
    let machine = machine(true, false, &[of("ours")], &[]);
    let bundle = signed_bundle();
    machine
        .stage(medium(&bundle.bytes), &trust())
        .expect("it is staged");
    let esp = machine.volume(wire::layout::VolumeRole::Esp);
    let before = fs::read(&esp).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let update = |deploy: &[u8]| {
        fs::write(folder.join("deploy.efi"), deploy).unwrap();
        fs::write(folder.join("loader.efi"), signed(&plain(64), "ours")).unwrap();
        boot::install_boot_image(machine.volumes(), folder)
    };
    let error = update(&signed(&plain(0x400), "theirs")).unwrap_err();
    assert!(error.downcast_ref::<WouldNotStart>().is_some(), "{error:#}");
    assert!(fs::read(&esp).unwrap() == before, "the ESP was written");
    update(&signed(&plain(0x400), "ours")).expect("this one starts");
    assert!(fs::read(&esp).unwrap() != before);
}

mod hostile {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// Damage anywhere ends in an answer.
        #[test]
        fn damaged_images_are_survived(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| signed(&plain(0), "leaf"));
            let mut image = GOOD.clone();
            for (at, value) in flips {
                let at = at.index(image.len());
                image[at] = value;
            }
            fuzz_image(&image);
            image.truncate(cut.index(image.len()));
            fuzz_image(&image);
        }
    }
}
