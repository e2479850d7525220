use super::*;
use crate::progress::Silent;
use camino::Utf8PathBuf;
use proptest::prelude::*;

struct Fixture {
    _folder: tempfile::TempDir,
    path: Utf8PathBuf,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().expect("folder");
    let path = Utf8PathBuf::from_path_buf(folder.path().to_owned()).expect("UTF-8");
    std::fs::write(path.join("stage.efi"), vec![0x4d; 3_000_001]).expect("file");
    std::fs::write(
        path.join("a.bundle"),
        (0..2_500_003_u32)
            .map(|n| (n % 251) as u8)
            .collect::<Vec<_>>(),
    )
    .expect("file");
    Fixture {
        _folder: folder,
        path,
    }
}

fn write(fixture: &Fixture) -> Utf8PathBuf {
    let out = fixture.path.join("medium.img");
    write_medium(&fixture.path, &fixture.path.join("a.bundle"), &out, &Silent).expect("it writes");
    out
}

/// Puts a file into `receipts/`, as the factory does.
fn put(image: &Utf8Path, name: &str, bytes: &[u8]) {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(image)
        .expect("image");
    let length = file.seek(SeekFrom::End(0)).expect("length");
    let (start, bytes_long) =
        find_partition(&mut file, length, MEDIUM_PARTITION).expect("partition");
    let fat =
        FileSystem::new(Window::new(file, start, bytes_long), FsOptions::new()).expect("volume");
    let mut receipt = fat
        .root_dir()
        .open_dir(RECEIPTS_FOLDER)
        .expect("folder")
        .create_file(name)
        .expect("file");
    receipt.write_all(bytes).expect("write");
    drop(receipt);
    fat.unmount().expect("unmount");
}

fn receipt(serial: &str) -> Vec<u8> {
    let receipt = Receipt {
        format: 1,
        serial: serial.into(),
        uuid: None,
        vendor: "Acme".into(),
        product: "Book 14".into(),
        macs: vec![],
        disk: "/dev/nvme0n1".into(),
        disk_serial: "D1".into(),
        disk_bytes: 1 << 38,
        prestage: None,
        prestage_version: None,
        bundle: None,
        seconds: 60,
        result: wire::receipt::ReceiptResult::Staged,
        errors: vec![],
        failed_step: None,
        secure_boot: None,
        agent: "0.1.0".into(),
    };
    serde_json::to_vec(&receipt).expect("JSON")
}

#[test]
fn the_medium_holds_boot_image_and_bundle() {
    let fixture = fixture();
    let image = write(&fixture);
    let mut file = File::open(&image).expect("image");
    let length = file.metadata().expect("metadata").len();
    let (start, bytes) = find_partition(&mut file, length, BUNDLE_PARTITION).expect("bundle");
    assert_eq!(start % MIB, 0);
    let bundle = std::fs::read(fixture.path.join("a.bundle")).expect("bundle");
    let mut partition = vec![0; usize::try_from(bytes).expect("small")];
    file.seek(SeekFrom::Start(start)).expect("seek");
    file.read_exact(&mut partition).expect("read");
    assert!(partition.starts_with(&bundle));

    let (start, bytes) = find_partition(&mut file, length, MEDIUM_PARTITION).expect("medium");
    let fat = FileSystem::new(Window::new(file, start, bytes), FsOptions::new())
        .map_err(|e| e.to_string());
    assert!(fat.is_err() || fat.is_ok_and(|fat| fat.fat_type() == FatType::Fat32));
    assert!(read_receipts(&image).expect("it reads").is_empty());
}

#[test]
fn other_tools_find_the_medium_sound() {
    let fixture = fixture();
    let image = write(&fixture);
    let esp = fixture.path.join("esp.img");
    let plan = Plan::new(3_000_001, 2_500_003);
    let mut file = File::open(&image).expect("image");
    file.seek(SeekFrom::Start(plan.medium_start)).expect("seek");
    let mut volume = Vec::new();
    file.take(plan.medium_bytes)
        .read_to_end(&mut volume)
        .expect("read");
    std::fs::write(&esp, volume).expect("write");
    let check = crate::command::Program::new("fsck.vfat")
        .args(["-n", "-v", esp.as_str()])
        .run();
    let said = check.expect("this test needs dosfstools: apt-get install dosfstools");
    assert!(said.contains("32 bit"), "{said}");
}

#[test]
fn receipts_come_back_and_broken_ones_are_named() {
    let fixture = fixture();
    let image = write(&fixture);
    put(&image, "SN0002.json", &receipt("SN0002"));
    put(&image, "SN0001 with a long name.json", &receipt("SN0001"));
    put(&image, "broken.json", b"{\"format\":1");
    put(&image, "long.json", &vec![b' '; 300_000]);
    put(&image, "notes.txt", b"hello");
    let receipts = read_receipts(&image).expect("it reads");
    let names: Vec<&str> = receipts.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "SN0001 with a long name.json",
            "SN0002.json",
            "broken.json",
            "long.json"
        ]
    );
    assert_eq!(
        receipts[0].receipt.as_ref().expect("receipt").serial,
        "SN0001"
    );
    assert!(receipts[2].receipt.is_err() && receipts[3].receipt.is_err());
}

#[test]
fn foreign_disks_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let path = Utf8PathBuf::from_path_buf(folder.path().join("x.img")).expect("UTF-8");
    for bytes in [vec![], vec![0; 100], vec![0; 4 << 20], vec![0xff; 1 << 20]] {
        std::fs::write(&path, bytes).expect("file");
        assert!(read_receipts(&path).is_err());
    }
    let fixture = fixture();
    let image = write(&fixture);
    let whole = std::fs::read(&image).expect("image");
    std::fs::write(&path, &whole[..40 << 20]).expect("file");
    assert!(
        read_receipts(&path).is_err(),
        "cut off inside of the partition"
    );
}

#[test]
fn clusters_keep_the_volume_fat32() {
    for mib in [64, 70, 96, 128, 200, 300, 600, 1040] {
        let bytes = mib * MIB;
        let clusters = bytes / u64::from(cluster_bytes(bytes));
        // Tables take 8 bytes for each cluster at two copies.
        assert!(
            clusters - clusters * 8 / u64::from(cluster_bytes(bytes)) - 100 > 65_525,
            "{mib} MiB: {clusters}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bit flips in partition table, boot sector, tables and folders end in an answer, never in a panic or a hang.
    #[test]
    fn hostile_media_are_survived(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..30)) {
        use std::sync::LazyLock;
        static WHOLE: LazyLock<(Fixture, Utf8PathBuf, Vec<u8>, Vec<usize>)> = LazyLock::new(|| {
            let fixture = fixture();
            let image = write(&fixture);
            put(&image, "SN0001 with a long name.json", &receipt("SN0001"));
            let bytes = std::fs::read(&image).expect("image");
            let start = usize::try_from(MIB).expect("small");
            // Where structure lies: GPT, boot sectors, and everything in the volume that isn't zero or boot image.
            let mut places: Vec<usize> = (0..34 * 512).chain(start..start + 8 * 512).collect();
            let volume = start..start + 64 * start;
            places.extend(volume.filter(|&at| bytes[at] != 0 && bytes[at] != 0x4d));
            (fixture, image, bytes, places)
        });
        let (_, image, bytes, places) = &*WHOLE;
        let mut file = OpenOptions::new().write(true).open(image).expect("image");
        let mut set = |at: usize, value: u8| {
            file.seek(SeekFrom::Start(at as u64)).expect("seek");
            file.write_all(&[value]).expect("write");
        };
        let flips: Vec<(usize, u8)> =
            flips.into_iter().map(|(index, value)| (places[index.index(places.len())], value)).collect();
        flips.iter().for_each(|&(at, value)| set(at, value));
        let _ = read_receipts(image);
        flips.iter().for_each(|&(at, _)| set(at, bytes[at]));
    }
}
