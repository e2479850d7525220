use super::*;
use crate::progress::Silent;

fn parse(text: &str) -> Result<PackageDefinition, MediaError> {
    parse_definition(text, Utf8Path::new("p.yaml"))
}

fn examples() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/packages")
}

#[test]
fn the_examples_are_definitions() {
    let paths = tree::files(&examples()).expect("examples");
    let definitions: Vec<PackageDefinition> = paths
        .iter()
        .map(|path| load_definition(path).unwrap_or_else(|error| panic!("{path}: {error}")))
        .collect();
    assert!(definitions.len() >= 7);
    let of_kind = |kind| {
        definitions
            .iter()
            .filter(|definition| definition.kind == kind)
            .count()
    };
    assert!(of_kind(PackageKind::Application) >= 4 && of_kind(PackageKind::Driver) >= 2);
}

#[test]
fn what_cannot_be_is_refused() {
    for (text, reason) in [
        ("name: a\nkind: driver\nsource: { tree: x }\n", "models"),
        (
            "name: a\nkind: driver\nsource: { tree: x }\nmodels: [{}]\n",
            "nothing",
        ),
        (
            "name: a\nkind: application\nsource: { tree: x }\n",
            "install",
        ),
        (
            "name: a\nkind: application\nsource: { image: x }\n",
            "os-image",
        ),
        ("name: a\nkind: os-image\nsource: { tree: x }\n", "no tree"),
        ("name: a\nkind: os-image\nsource: { tar: x }\n", "no tree"),
        (
            "name: a\nkind: files\nsource: { disk: { file: x, partition: 1 } }\n",
            "os-image",
        ),
        (
            "name: a\nkind: files\nsource: { wim: { file: x } }\n",
            "os-image",
        ),
        (
            "name: a\nkind: application\nsource: { tar: x }\n",
            "install",
        ),
        (
            "name: a\nkind: application\nsource: { debian: { packages: [vim] } }\n",
            "os-status",
        ),
        (
            "name: a\nkind: files\nsource: { debian: { packages: [] } }\n",
            "empty",
        ),
        (
            "name: a\nkind: files\nsource: { tree: x }\ncolour: red\n",
            "colour",
        ),
        (
            "name: A b\nkind: files\nsource: { tree: x }\n",
            "small letter",
        ),
        (
            "name: a\nkind: files\nsource: { debian: { packages: [vim], newer-than: bookworm } }\n",
            "release",
        ),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn a_tree_is_prepared_with_a_version_of_its_content() {
    let folder = tempfile::tempdir().expect("folder");
    let base = Utf8Path::from_path(folder.path()).expect("UTF-8");
    fs::create_dir(base.join("tree")).expect("folder");
    fs::write(base.join("tree/a"), "1").expect("file");
    let definition = parse("name: a\nkind: files\nsource: { tree: tree }\n").expect("it parses");
    let prepare = || prepare_package(&definition, base, base, &Silent).expect("it prepares");
    let first = prepare();
    assert_eq!(first.content, PreparedContent::Tree(base.join("tree")));
    assert_eq!(first, prepare());
    fs::write(base.join("tree/a"), "2").expect("file");
    assert_ne!(first.package.version, prepare().package.version);
}

#[test]
fn a_tar_archive_is_unpacked_once() {
    let folder = tempfile::tempdir().expect("folder");
    let base = Utf8Path::from_path(folder.path()).expect("UTF-8");
    fs::create_dir(base.join("tree")).expect("folder");
    fs::write(base.join("tree/blåbær"), "syltetøy").expect("file");
    // A name with a colon isn't another machine's.
    let archive = base.join("a:b.tar.gz");
    let packed = Program::new("tar").args(["--force-local", "-czf", archive.as_str(), "-C"]);
    packed.args([base.as_str(), "tree"]).run().expect("tar");
    let definition =
        parse("name: a\nkind: files\nsource: { tar: 'a:b.tar.gz' }\n").expect("it parses");
    let prepare = || prepare_package(&definition, base, base, &Silent).expect("it prepares");
    let prepared = prepare();
    let PreparedContent::Tree(unpacked) = &prepared.content else {
        panic!("{prepared:?}")
    };
    let text = fs::read_to_string(unpacked.join("tree/blåbær")).expect("it is there");
    assert_eq!(text, "syltetøy");
    assert_eq!(prepare(), prepared);
    fs::write(&archive, "no archive").expect("file");
    let error = prepare_package(&definition, base, base, &Silent).expect_err("it is none");
    assert!(error.to_string().contains("unpack"), "{error}");
}

#[test]
fn an_image_names_its_smallest_volume() {
    let folder = tempfile::tempdir().expect("folder");
    let base = Utf8Path::from_path(folder.path()).expect("UTF-8");
    fs::write(base.join("os.img"), vec![0; 8192]).expect("file");
    let definition = parse("name: os\nversion: '12'\nkind: os-image\nsource: { image: os.img }\n")
        .expect("it parses");
    let prepared = prepare_package(&definition, base, base, &Silent).expect("it prepares");
    assert_eq!(prepared.package.volume_bytes_min, 8192);
    assert_eq!(prepared.package.version.as_str(), "12");
    fs::remove_file(base.join("os.img")).expect("remove");
    assert!(prepare_package(&definition, base, base, &Silent).is_err());
}

#[test]
fn files_of_packages_are_laid_out_as_installed() {
    let folder = tempfile::tempdir().expect("folder");
    let base = Utf8Path::from_path(folder.path()).expect("UTF-8");
    for path in [
        "lib/firmware/a.fw",
        "usr/lib/firmware/b.fw",
        "usr/share/doc/x/copyright",
    ] {
        fs::create_dir_all(base.join(path).parent().expect("parent")).expect("folder");
        fs::write(base.join(path), path).expect("file");
    }
    merge_usr(base).expect("it merges");
    let files = tree::files(base).expect("files");
    let names: Vec<&Utf8Path> = files
        .iter()
        .filter_map(|path| path.strip_prefix(base).ok())
        .collect();
    assert_eq!(names, ["usr/lib/firmware/a.fw", "usr/lib/firmware/b.fw"]);
    assert!(!base.join("lib").exists());
}
