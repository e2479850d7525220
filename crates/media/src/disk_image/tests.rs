use std::io::Write as _;
use std::process::Command;

use super::*;
use crate::progress::Silent;

/// A disk with an ESP and an OS partition, made by the programs that make such disks.
struct World {
    _folder: tempfile::TempDir,
    base: Utf8PathBuf,
}

const OS_BYTES: u64 = 32 << 20;
const OS_START: u64 = 17 << 20;

fn run(package: &str, program: &str, args: &[&str], stdin: &str) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").expect("PATH"));
    let mut child = Command::new(program)
        .args(args)
        .env("PATH", path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("this test needs {program} ({package}): {error}"));
    let mut to = child.stdin.take().expect("stdin");
    to.write_all(stdin.as_bytes()).expect("it reads");
    drop(to);
    assert!(
        child.wait().expect("it ends").success(),
        "{program} {args:?}"
    );
}

impl World {
    fn new(table: &str) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let base = Utf8PathBuf::from_path_buf(folder.path().to_owned()).expect("UTF-8");
        let world = Self {
            _folder: folder,
            base,
        };
        fs::create_dir(world.path("tree")).expect("folder");
        fs::write(world.path("tree/blåbær"), "god på vaffel").expect("file");
        let (tree, os, disk) = (
            world.path("tree"),
            world.path("os.img"),
            world.path("disk.raw"),
        );
        let made = ["-q", "-t", "ext4", "-d", tree.as_str(), os.as_str(), "32M"];
        run("e2fsprogs", "mke2fs", &made, "");
        File::create_new(&disk)
            .expect("disk")
            .set_len(64 << 20)
            .expect("room");
        run("fdisk", "sfdisk", &["--quiet", disk.as_str()], table);
        let file = File::options().write(true).open(&disk).expect("disk");
        file.write_all_at(&world.os(), OS_START).expect("it fits");
        world
    }

    fn gpt() -> Self {
        Self::new("label: gpt\nsize=16M, name=EFI\nsize=32M, name=\"OS på norsk\"\n")
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        self.base.join(name)
    }

    fn os(&self) -> Vec<u8> {
        fs::read(self.path("os.img")).expect("the filesystem")
    }

    fn take(
        &self,
        disk: &str,
        partition: Option<u32>,
        label: Option<&str>,
    ) -> Result<Utf8PathBuf, MediaError> {
        let source = DiskSource {
            file: disk.into(),
            partition,
            label: label.map(ToOwned::to_owned),
        };
        let disk = self.path(disk);
        partition_image(&source, &disk, disk.as_str(), &self.path("cache"), &Silent)
    }

    /// That this takes the OS's filesystem, byte for byte, with holes.
    fn check(&self, disk: &str, partition: Option<u32>, label: Option<&str>) {
        let image = self.take(disk, partition, label).expect("it is taken");
        assert!(fs::read(&image).expect("the image") == self.os(), "{disk}");
        let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&image).expect("image"));
        assert!(
            blocks * 512 < OS_BYTES / 2,
            "{blocks} blocks of {disk} are taken"
        );
        check_filesystem(&image).expect("it is one");
    }

    fn refusal(&self, disk: &str, partition: Option<u32>, label: Option<&str>) -> (String, String) {
        let error = self
            .take(disk, partition, label)
            .expect_err("it is refused");
        let said = error.to_string().replace(self.base.as_str(), "");
        (said, error.hint().unwrap_or_default().to_owned())
    }
}

#[test]
fn a_partition_is_taken_from_any_disk() {
    let world = World::gpt();
    let convert = |format: &str| {
        let (from, to) = (
            world.path("disk.raw"),
            world.path(&format!("disk.{format}")),
        );
        let args = [
            "convert",
            "-f",
            "raw",
            "-O",
            format,
            from.as_str(),
            to.as_str(),
        ];
        run("qemu-utils", "qemu-img", &args, "");
    };
    convert("qcow2");
    convert("vhdx");
    for disk in ["disk.raw", "disk.qcow2", "disk.vhdx"] {
        world.check(disk, Some(2), None);
        world.check(disk, None, Some("OS på norsk"));
    }
    // A second time it is only looked up.
    let kept = world.take("disk.raw", Some(2), None).expect("it is taken");
    fs::write(&kept, "kept").expect("it is written");
    assert_eq!(
        world.take("disk.raw", Some(2), None).expect("it is there"),
        kept
    );
    assert_eq!(fs::read(&kept).expect("it is read"), b"kept");
}

#[test]
fn partitions_of_an_mbr_have_numbers() {
    let world = World::new("label: dos\nsize=16M\nsize=32M\n");
    world.check("disk.raw", Some(2), None);
    let (what, hint) = world.refusal("disk.raw", None, None);
    assert!(what.contains("several partitions"), "{what}");
    assert_eq!(
        hint,
        "set partition or label to one of 1 (16 MiB), 2 (32 MiB)"
    );
}

#[test]
fn a_disk_without_partitions_is_one_filesystem() {
    let world = World::gpt();
    world.check("os.img", None, None);
    let (what, _) = world.refusal("os.img", Some(1), None);
    assert_eq!(what, "/os.img has no partitions");
}

#[test]
fn what_is_not_chosen_is_listed() {
    let world = World::gpt();
    let all = "1 (EFI, 16 MiB), 2 (OS på norsk, 32 MiB)";
    let (what, hint) = world.refusal("disk.raw", None, None);
    assert!(what.contains("several partitions"), "{what}");
    assert_eq!(hint, format!("set partition or label to one of {all}"));
    for (number, label) in [
        (Some(3), None),
        (None, Some("Windows")),
        (Some(1), Some("OS på norsk")),
    ] {
        let (what, hint) = world.refusal("disk.raw", number, label);
        assert_eq!(
            (what.as_str(), hint),
            ("/disk.raw has no such partition", format!("it has {all}"))
        );
    }
}

#[test]
fn a_disk_that_needs_another_file_is_refused() {
    let world = World::gpt();
    let (base, top) = (world.path("disk.raw"), world.path("top.qcow2"));
    let based = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        base.as_str(),
        top.as_str(),
    ];
    run("qemu-utils", "qemu-img", &based, "");
    let (what, _) = world.refusal("top.qcow2", Some(2), None);
    assert!(what.contains("differs from another disk"), "{what}");
    let apart = world.path("apart.qcow2");
    let option = format!("data_file={},data_file_raw=on", world.path("data"));
    let outside = [
        "create",
        "-q",
        "-f",
        "qcow2",
        "-o",
        &option,
        apart.as_str(),
        "1M",
    ];
    run("qemu-utils", "qemu-img", &outside, "");
    assert!(
        world
            .refusal("apart.qcow2", None, None)
            .0
            .contains("in another file")
    );
}

#[test]
fn what_is_no_filesystem_in_order_is_refused() {
    let world = World::gpt();
    let check = |name: &str| {
        let error = check_filesystem(&world.path(name)).expect_err(name);
        let what = error.to_string().replace(world.base.as_str(), "");
        (what, error.hint().expect("a hint").to_owned())
    };
    let (what, hint) = check("disk.raw");
    assert_eq!(
        what,
        "/disk.raw is a disk with partitions, not a filesystem image"
    );
    assert!(
        hint.ends_with("it has 1 (EFI, 16 MiB), 2 (OS på norsk, 32 MiB)"),
        "{hint}"
    );
    let (from, to) = (world.path("disk.raw"), world.path("disk.qcow2"));
    let args = [
        "convert",
        "-f",
        "raw",
        "-O",
        "qcow2",
        from.as_str(),
        to.as_str(),
    ];
    run("qemu-utils", "qemu-img", &args, "");
    assert!(check("disk.qcow2").0.contains("virtual machine"));
    let os = world.path("os.img");
    run(
        "e2fsprogs",
        "debugfs",
        &["-w", "-R", "feature needs_recovery", os.as_str()],
        "",
    );
    let (what, hint) = check("os.img");
    assert!(what.contains("the journal has yet to be played"), "{what}");
    assert!(hint.contains("e2fsck"), "{hint}");
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let error = Program::new("qemu-img-that-is-not-there")
        .run()
        .expect_err("no such program");
    assert_eq!(MediaError::command("x")(error).hint(), None);
    let start = |program: &str| crate::command::CommandError::Start {
        program: program.into(),
        source: std::io::ErrorKind::NotFound.into(),
    };
    let hint = |program| {
        MediaError::command("x")(start(program))
            .hint()
            .map(ToOwned::to_owned)
    };
    assert_eq!(
        hint("qemu-img").as_deref(),
        Some("install it: apt-get install qemu-utils")
    );
    assert_eq!(
        hint("wimlib-imagex").as_deref(),
        Some("install it: apt-get install wimtools")
    );
}
