//! Archives as they are written, and as nobody writes them.

use proptest::prelude::*;

use super::*;

const JSON: &str =
    r#"{"format":1,"made-at-ms":0,"forestage":"0.1.0","schema":1,"with-content":true}"#;

/// A member as it is given, and members as they are read.
type Given<'a> = (&'a str, &'a [u8]);
type Taken = Vec<(String, Vec<u8>)>;

fn head() -> Head {
    serde_json::from_str(JSON).unwrap()
}

/// An archive with these members, as it is written.
fn written(members: &[Given<'_>]) -> (Vec<u8>, Contents) {
    let mut writer = Writer::begin(Vec::new(), "a.backup".into(), head()).unwrap();
    for (path, content) in members {
        let bytes = content.len() as u64;
        let add = writer.add(path, bytes, &mut &content[..], Utf8Path::new(path));
        add.unwrap();
    }
    writer.finish(LeftOut::default()).unwrap()
}

/// An archive with these members, whatever they are.
fn forged(members: &[Given<'_>], kind: tar::EntryType) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, content) in members {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(if *path == HEAD {
            tar::EntryType::Regular
        } else {
            kind
        });
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// Every member of an archive, and what it says of itself.
fn read_all(archive: &[u8]) -> Result<(Taken, Contents), ReadError> {
    let mut members = Vec::new();
    let contents = read(archive, |path, member| {
        let mut content = Vec::new();
        let bytes = member.read_to_end(&mut content).unwrap();
        members.push((path.to_owned(), content));
        Ok(bytes as u64)
    })?;
    Ok((members, contents))
}

#[test]
fn tar_reads_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let (archive, _) = written(&[(DATABASE, b"rows"), ("keys/bundle.key", b"")]);
    std::fs::write(folder.path().join("a.tar"), archive).unwrap();
    let output = std::process::Command::new("tar")
        .args(["--list", "--file", "a.tar"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success());
    let expected = "backup.json\nforestage.db\nkeys/bundle.key\nmembers.json\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn what_nobody_writes_is_refused() {
    let head: Given<'_> = (HEAD, JSON.as_bytes());
    let list: Given<'_> = (LIST, br#"{"members":[]}"#);
    let x: &[u8] = b"x";
    let cases: [(&str, &[Given<'_>]); 11] = [
        ("doesn't end with", &[]),
        ("doesn't end with", &[head, (DATABASE, x)]),
        ("doesn't begin with", &[list]),
        ("no place", &[head, ("../evil", x), list]),
        ("no place", &[head, ("keys/../../evil", x), list]),
        ("no place", &[head, ("/tmp/evil", x), list]),
        ("no place", &[head, head, list]),
        ("no place", &[head, list, ("keys/a", x)]),
        ("differ", &[head, ("keys/a", x), list]),
        ("differ", &[head, list]),
        ("missing field", &[(HEAD, br#"{"format":1}"#), list]),
    ];
    for (expected, members) in cases {
        let error = read_all(&forged(members, tar::EntryType::Regular)).unwrap_err();
        let ReadError::Malformed(why) = error else {
            panic!("{members:?}: {error:?}");
        };
        assert!(why.contains(expected), "{members:?}: {why}");
    }
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Directory,
        tar::EntryType::GNULongName,
        tar::EntryType::XHeader,
        tar::EntryType::GNUSparse,
        tar::EntryType::Fifo,
    ] {
        let error = read_all(&forged(&[head, ("keys/a", x), list], kind)).unwrap_err();
        assert!(
            matches!(&error, ReadError::Malformed(why) if why.contains("no plain file")),
            "{kind:?}: {error:?}"
        );
    }
}

#[test]
fn a_later_format_is_told_apart_whatever_else_it_has() {
    let archive = forged(&[(HEAD, br#"{"format":2}"#)], tar::EntryType::Regular);
    assert!(matches!(read_all(&archive), Err(ReadError::TooNew(2))));
    let archive = forged(&[(HEAD, br#"{"format":0}"#)], tar::EntryType::Regular);
    assert!(matches!(read_all(&archive), Err(ReadError::Malformed(_))));
}

#[test]
fn every_archive_that_was_cut_or_goes_on_is_refused() {
    let (archive, _) = written(&[(DATABASE, b"rows"), ("tls/ca.pem", &[7; 700])]);
    for bytes in 0..archive.len() {
        assert!(read_all(&archive[..bytes]).is_err(), "cut after {bytes}");
    }
    for more in [&[0_u8][..], b"x", &[0; 512]] {
        assert!(read_all(&[&archive, more].concat()).is_err());
    }
}

#[test]
fn only_what_belongs_into_a_data_folder_is_taken() {
    for path in [
        "backup.json",
        "members.json",
        "forestage.db",
        "keys/bundle.key",
        "tls/server.json",
        "bundles/book-14@3.bundle",
        "library/packs/0a.pack",
        "library/manifests/0a",
    ] {
        assert!(is_allowed(path), "{path}");
    }
    let long = format!("keys/{}", "a".repeat(PATH_BYTES_MAX));
    for path in [
        "",
        "/",
        "keys",
        "keys/",
        "keys/.",
        "keys/..",
        "keys/.hidden",
        "keys/a/b",
        "keys//a",
        "/keys/a",
        "./keys/a",
        "other/a",
        "library/lock",
        "library/patches/a",
        "forestage.db-wal",
        "keys/blå",
        "keys/a\0",
        &long,
    ] {
        assert!(!is_allowed(path), "{path}");
    }
}

/// Members in the order in which a backup has them: each path once.
fn any_members() -> impl Strategy<Value = Taken> {
    let content = || proptest::collection::vec(any::<u8>(), 0..1200);
    let folders = proptest::sample::select([&SECRETS[..], &CONTENT[..]].concat());
    let path = (folders, "[A-Za-z0-9_][A-Za-z0-9._@-]{0,20}")
        .prop_map(|(folder, name)| format!("{folder}/{name}"));
    let others = proptest::collection::btree_map(path, content(), 0..6);
    (content(), others).prop_map(|(database, others)| {
        let database = (DATABASE.to_owned(), database);
        std::iter::once(database).chain(others).collect()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(members in any_members()) {
        let borrowed: Vec<Given<'_>> =
            members.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
        let (archive, made) = written(&borrowed);
        let (read, contents) = read_all(&archive).unwrap();
        prop_assert_eq!(read, members);
        prop_assert_eq!(contents, made);
    }

    /// The bytes of headers and contents; between members lies nothing that counts.
    #[test]
    fn what_was_changed_is_refused_or_reads_the_same(
        members in any_members(),
        at in any::<proptest::sample::Index>(),
        bit in 0_u32..8,
    ) {
        let borrowed: Vec<Given<'_>> =
            members.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
        let (mut archive, made) = written(&borrowed);
        let at = at.index(archive.len());
        archive[at] ^= 1 << bit;
        if let Ok((read, contents)) = read_all(&archive) {
            prop_assert_eq!(read, members);
            prop_assert_eq!(contents.members, made.members);
        }
    }
}
