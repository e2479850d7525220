use super::*;

/// Keys of whoever the folder is called after.
pub(crate) fn keys(folder: &Utf8Path) -> MadeKeys {
    let set = KeySet {
        name: folder.file_name().expect("a name"),
        days: 100,
        with_debian: true,
        also: &[],
    };
    create_keys(&set, folder).expect("this test needs apt-get install openssl sbsigntool faketime")
}

/// Whether an image is signed with the `db` of these keys.
pub(crate) fn starts(keys: &Utf8Path, image: &Utf8Path) -> bool {
    Program::new("sbverify")
        .args(["--cert", keys.join("db.pem").as_str(), image.as_str()])
        .run()
        .is_ok()
}

fn folder() -> (tempfile::TempDir, Utf8PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).expect("UTF-8");
    (folder, path)
}

#[test]
fn a_set_of_keys_has_all_that_firmware_takes_and_private_keys_are_private() {
    let (_folder, folder) = folder();
    let out = folder.join("Ås kommune");
    let made = keys(&out);
    let mut wanted: Vec<String> = ["PK", "KEK", "db"]
        .iter()
        .flat_map(|key| ["auth", "cer", "esl", "key", "pem"].map(|end| format!("{key}.{end}")))
        .chain(["debian-ca.cer".to_owned(), "owner.txt".to_owned()])
        .collect();
    wanted.sort();
    assert_eq!(made.files, wanted);
    assert_eq!(
        made.starts,
        ["CN=Ås kommune db, boot images", "CN=Debian Secure Boot CA"]
    );
    let mode = |path: &Utf8Path| {
        let metadata = std::fs::metadata(path).expect("it is there");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(&out), 0o700);
    for file in &made.files {
        let is_private = file.ends_with(".key");
        let wanted = if is_private { 0o600 } else { 0o644 };
        assert_eq!(mode(&out.join(file)), wanted, "{file}");
        let text = std::fs::read(out.join(file)).expect("a file");
        let has_key = text.windows(11).any(|window| window == b"PRIVATE KEY");
        assert_eq!(has_key, is_private, "{file}");
    }
    let list = std::fs::read(out.join("db.esl")).expect("a list");
    let update = std::fs::read(out.join("db.auth")).expect("an update");
    assert!(update.ends_with(&list), "the update holds the list");
    let left: Vec<_> = folder.read_dir_utf8().expect("a folder").collect();
    assert_eq!(left.len(), 1, "nothing else is left: {left:?}");
}

#[test]
fn keys_are_never_written_over() {
    let (_folder, folder) = folder();
    let out = folder.join("keys");
    keys(&out);
    let before = std::fs::read(out.join("PK.key")).expect("a key");
    let set = KeySet {
        name: "others",
        days: 1,
        with_debian: false,
        also: &[],
    };
    let error = create_keys(&set, &out).expect_err("it is there");
    assert!(matches!(error, MediaError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(out.join("PK.key")).expect("a key"), before);
    std::fs::create_dir(folder.join("empty")).expect("a folder");
    let made = create_keys(&set, &folder.join("empty")).expect("an empty folder will do");
    assert_eq!(made.starts, ["CN=others db, boot images"]);
}

#[test]
fn what_others_sign_can_start_too() {
    let (_folder, folder) = folder();
    keys(&folder.join("vendor"));
    let also = ["db.pem", "KEK.cer"].map(|file| folder.join("vendor").join(file));
    let set = KeySet {
        name: "ours",
        days: 1,
        with_debian: false,
        also: &also,
    };
    let made = create_keys(&set, &folder.join("ours")).expect("keys");
    assert_eq!(
        made.starts,
        [
            "CN=ours db, boot images",
            "CN=vendor db, boot images",
            "CN=vendor KEK, key exchange key"
        ]
    );
    let set = KeySet {
        also: &[folder.join("ours/owner.txt")],
        ..set
    };
    create_keys(&set, &folder.join("never")).expect_err("that is no certificate");
    assert!(!folder.join("never").exists());
}

#[test]
fn a_name_means_nothing_but_itself() {
    for good in ["Innlandet", "Ås kommune", "IT-drift 2."] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    let long = "x".repeat(41);
    for bad in [
        "", " a", "a/CN=b", "a+b", "a\nb", "a=b", "a,b", "\"a", &long,
    ] {
        assert!(check_name(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_key_of_another_certificate_signs_nothing() {
    let (_folder, folder) = folder();
    let out = folder.join("keys");
    keys(&out);
    let image = crate::uki::tests::stub(4);
    let signer = ImageSigner::new(&out.join("KEK.key"), &out.join("db.pem")).expect("files");
    signer
        .sign(&image, "test.efi", &folder)
        .expect_err("the key isn't that of the certificate");
    assert!(ImageSigner::new(&out.join("no.key"), &out.join("db.pem")).is_err());
    assert!(ImageSigner::new(&out.join("db.key"), &out.join("db.key")).is_err());
}
