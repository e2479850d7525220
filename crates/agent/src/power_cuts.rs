//! Power cuts, all through: what a staging and two deployments write to a disk is recorded, the disk is put into the
//! states that a cut can leave, and the agent's own code goes on from there.
//!
//! Between two syncs a disk may hold, of each sector by itself, any of the versions it had since the first of the two: caches
//! write back in any order, but a sector is written whole or not at all and never goes back. Each stretch between two syncs
//! is cut at its start, at its end, and at random in between.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `FORESTAGE_CRASH_STATES=20000` | looks at about so many states instead of 2,000 (`cargo xtask nightly` does) |
//! | `FORESTAGE_FAILING_OPERATIONS=100000` | lets about so many operations fail instead of 300 |
//! | `FORESTAGE_CRASH_SEED=7` | another choice of states; a failure names its own |
//!
//! Content is written here as one pattern per volume: how a library and an OS volume survive is tested in `content`.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use sequence::layout::{Layout, Volume};
use testkit::chance::{Chance, variable};
use uuid::Uuid;
use wire::facts::DiskContent;
use wire::layout::VolumeRole;
use wire::mark::{MarkState, StagingMark};

use crate::block::BlockFile;
use crate::block::watched::{Disk, Done};
use crate::esp::tests::fsck;
use crate::esp::{self, Fat, LoaderConf, OsEntry};
use crate::machine::disk::{Before, examine, prepare_esp, write_mark_and_table};
use crate::{gpt, guard};

const MIB: u64 = 1 << 20;
const SECTOR: usize = 512;
const SERIAL: &str = "PF3ABC";
const UUID: Option<Uuid> = Some(Uuid::from_u128(1));
static LOADER: [u8; 20_000] = [0x10; 20_000];

/// A boot image or kernel that is longer than a cluster and tells its version.
fn payload(version: u8) -> Vec<u8> {
    (0..30_000_u32)
        .map(|at| version.wrapping_add((at / 512).to_le_bytes()[0]))
        .collect()
}

fn layout() -> Layout {
    let volume = |role, offset_mib, size_mib| Volume {
        role,
        offset_bytes: offset_mib * MIB,
        size_bytes: size_mib * MIB,
    };
    Layout {
        disk: "/dev/test".into(),
        disk_bytes: 44 * MIB,
        // FAT32 begins at 33 MiB.
        volumes: vec![
            volume(VolumeRole::Esp, 1, 36),
            volume(VolumeRole::Os, 37, 3),
            volume(VolumeRole::Staging, 40, 3),
        ],
    }
}

/// The same, with the staging partition before the OS volume.
fn other_layout() -> Layout {
    let mut layout = layout();
    let (first, second) = (layout.volumes[1].role, layout.volumes[2].role);
    layout.volumes[1].role = second;
    layout.volumes[2].role = first;
    layout
}

fn volume(disk: &BlockFile, role: VolumeRole) -> BlockFile {
    volume_of(disk, &layout(), role)
}

fn volume_of(disk: &BlockFile, layout: &Layout, role: VolumeRole) -> BlockFile {
    let found = layout.volumes.iter().find(|volume| volume.role == role);
    let found = found.expect("a volume of the layout");
    disk.part(found.offset_bytes, found.size_bytes)
}

/// What stands for the content of a volume.
fn pattern(role: VolumeRole) -> Vec<u8> {
    let byte = if role == VolumeRole::Os { 0x05 } else { 0x57 };
    vec![byte; usize::try_from(2 * MIB).expect("fits") + SECTOR]
}

/// What is done to a disk, in the order of `docs/formats/staged-disk.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    /// At the factory.
    Stage,
    /// At the factory again, on a disk that was staged with another layout.
    Restage,
    /// At school: the OS with this kernel.
    Deploy(u8),
    /// At school again: a newer boot image and the OS with this kernel.
    Renew(u8),
    /// In the OS, which starts at power-on: an update brings this kernel.
    NewKernel(u8),
}

const IMAGE: u8 = 1;
const IMAGE_NEW: u8 = 2;

impl Work {
    /// Does it, whatever a cut has left of it.
    fn run(self, disk: &BlockFile) -> anyhow::Result<()> {
        match self {
            Self::Stage | Self::Restage => stage(disk, &layout()),
            Self::Deploy(kernel) => deploy(disk, kernel),
            Self::Renew(kernel) => {
                with_esp(disk, |fat| fat.set_default(false))?;
                install(disk, IMAGE_NEW)?;
                deploy(disk, kernel)
            }
            Self::NewKernel(kernel) => install_kernel(disk, kernel),
        }
    }
}

fn with_esp(disk: &BlockFile, work: impl FnOnce(&Fat) -> anyhow::Result<()>) -> anyhow::Result<()> {
    disk.sync()?;
    let fat = Fat::open(&volume(disk, VolumeRole::Esp))?;
    work(&fat)?;
    fat.close()
}

fn install(disk: &BlockFile, image: u8) -> anyhow::Result<()> {
    with_esp(disk, |fat| {
        fat.install_boot_image(
            &mut Cursor::new(payload(image)),
            &mut Cursor::new(LOADER.to_vec()),
        )
    })
}

fn stage(disk: &BlockFile, layout: &Layout) -> anyhow::Result<()> {
    let wanted = gpt::partitions_of(layout, SERIAL, UUID)?;
    if examine(disk, layout, &wanted, (SERIAL, UUID))? == Before::Other {
        write_mark_and_table(disk, 512, &wanted, (SERIAL, UUID))?;
    }
    prepare_esp(&volume(disk, VolumeRole::Esp), &|_| {})?;
    for role in [VolumeRole::Staging, VolumeRole::Os] {
        let (volume, pattern) = (volume_of(disk, layout, role), pattern(role));
        let mut found = vec![0; pattern.len()];
        volume.read_at(&mut found, 0)?;
        if found != pattern {
            volume.write_at(&pattern, 0)?;
        }
    }
    install(disk, IMAGE)
}

/// What the OS does when it gets another kernel.
fn install_kernel(disk: &BlockFile, kernel: u8) -> anyhow::Result<()> {
    with_esp(disk, |fat| {
        fat.install_os_entry(OsEntry {
            title: format!("Debian {kernel}"),
            options: "root=PARTUUID=x rw quiet".into(),
            kernel: Cursor::new(payload(kernel)),
            initrd: Some(Cursor::new(payload(kernel.wrapping_add(100)))),
        })
    })
}

fn deploy(disk: &BlockFile, kernel: u8) -> anyhow::Result<()> {
    install_kernel(disk, kernel)?;
    with_esp(disk, |fat| fat.set_default(true))?;
    let mut mark = guard::read_mark(disk)?.unwrap_or_else(|| panic!("the mark is gone"));
    mark.state = MarkState::Deployed;
    Ok(guard::write_mark(disk, &mark)?)
}

/// What firmware finds: nothing, our agent, or the OS with this kernel. An error says what would go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Starts {
    Nothing,
    Agent(u8),
    Os(u8),
}

fn starts(disk: &BlockFile) -> Result<Starts, String> {
    let wanted = gpt::partitions_of(&layout(), SERIAL, UUID).map_err(|error| error.to_string())?;
    // What an earlier staging left is complete in itself.
    if gpt::read_table(disk).map_or(true, |found| found != wanted) {
        return Ok(Starts::Nothing);
    }
    let Ok(fat) = Fat::open(&volume(disk, VolumeRole::Esp)) else {
        return Ok(Starts::Nothing);
    };
    let read = |path: &str| fat.read(path, MIB).ok().flatten();
    if read(esp::FIRMWARE_PATH).is_none_or(|found| found != LOADER) {
        return Ok(Starts::Nothing);
    }
    for role in [VolumeRole::Os, VolumeRole::Staging] {
        let mut found = pattern(role);
        volume(disk, role)
            .read_at(&mut found, 0)
            .map_err(|error| error.to_string())?;
        if found != pattern(role) {
            return Err(format!("it starts, and {role:?} is not complete"));
        }
    }
    let conf = read("loader/loader.conf").and_then(|bytes| LoaderConf::decode(&bytes));
    let conf = conf.ok_or("it starts, and nothing says what")?;
    let version = |path: &str, versions: &[u8], shift: u8| {
        let found = read(path)?;
        let is_it = |version: &&u8| payload(version.wrapping_add(shift)) == found;
        versions.iter().find(is_it).copied()
    };
    if !conf.is_os {
        let image = version(&format!("EFI/Linux/{}", conf.slot), &[IMAGE, IMAGE_NEW], 0);
        return image
            .map(Starts::Agent)
            .ok_or_else(|| format!("{} is the default and is broken", conf.slot));
    }
    let entry = read(&conf.os.entry_path()).unwrap_or_default();
    let kernel = version(conf.os.kernel(), KERNELS, 0).ok_or("the kernel is broken")?;
    let initrd = version(conf.os.initrd(), KERNELS, 100).ok_or("the initrd is broken")?;
    let entry = String::from_utf8_lossy(&entry);
    if initrd != kernel
        || !entry.starts_with(&format!("title Debian {kernel}\n"))
        || !entry.ends_with("rw quiet\n")
    {
        return Err(format!(
            "kernel {kernel}, initrd {initrd} and this entry don't belong together: {entry}"
        ));
    }
    Ok(Starts::Os(kernel))
}

const KERNELS: &[u8] = &[40, 60];

/// What a kernel that reads this disk must find: it trusts the first copy of a table only, and only under a protective MBR.
fn assert_table_is_whole(disk: &BlockFile) {
    let wanted = gpt::partitions_of(&layout(), SERIAL, UUID).expect("a layout");
    assert!(
        gpt::has_table(disk, &wanted),
        "the table isn't there in whole"
    );
    let mut sector = [0; SECTOR];
    disk.read_at(&mut sector, 0).expect("the first sector");
    assert_eq!(
        (sector[450], &sector[510..]),
        (0xee, &[0x55, 0xaa][..]),
        "the protective MBR is missing"
    );
    for (what, at) in [("first", 512), ("second", disk.length() - 512)] {
        disk.read_at(&mut sector, at).expect("a header");
        assert_eq!(&sector[..8], b"EFI PART", "the {what} header is missing");
    }
}

/// What `fsck.vfat` may say of a volume that was cut and is sound: that nobody has checked it since, and that clusters of a file
/// that was being written belong to nothing, in one copy of the table or in both. The OS's own check takes those back.
const SAID_AFTER_CUTS: [&str; 14] = [
    "fsck.fat ",
    "There are differences between boot sector and its backup.",
    "This is mostly harmless. Differences: (offset:original/backup)",
    "  65:01/00",
    "  Not automatically fixing this.",
    "Dirty bit is set.",
    " Automatically removing dirty bit.",
    "FATs differ but appear to be intact.",
    "  Using first FAT.",
    "Reclaimed ",
    "Free cluster summary wrong",
    "  Auto-correcting.",
    "Leaving filesystem unchanged.",
    "volume: ",
];

/// `fsck.vfat` finds no damage.
fn assert_esp_is_sound(disk: &BlockFile, place: &str) {
    let (_, said) = fsck(&volume(disk, VolumeRole::Esp));
    let damage = said.lines().filter(|line| {
        let may_be = SAID_AFTER_CUTS.iter().any(|start| line.starts_with(start));
        !may_be && !line.is_empty()
    });
    assert_eq!(damage.count(), 0, "{place}: {said}");
}

/// The writes between two syncs.
type Stretch = Vec<(u64, Vec<u8>)>;

fn stretches(log: Vec<Done>) -> Vec<Stretch> {
    let mut stretches = vec![Vec::new()];
    for done in log {
        match done {
            Done::Write(at, bytes) => stretches
                .last_mut()
                .expect("one at least")
                .push((at, bytes)),
            Done::Sync => stretches.push(Vec::new()),
        }
    }
    stretches.retain(|stretch| !stretch.is_empty());
    stretches
}

/// Writes what a cut somewhere in `stretch` leaves: of each sector a version of its own choice.
fn cut(disk: &BlockFile, stretch: &Stretch, numbers: &mut Chance) {
    let until = numbers.below(stretch.len() as u64 + 1);
    // Caches that hold on to nearly nothing and to nearly all are as likely as those in between.
    let holds_back = [0, 2, 30, 70, 98][usize::try_from(numbers.below(5)).expect("small")];
    let mut is_held = BTreeMap::new();
    for (at, bytes) in stretch.iter().take(usize::try_from(until).expect("small")) {
        let mut done = 0;
        while done < bytes.len() {
            let place = at + done as u64;
            let room = SECTOR - usize::try_from(place % SECTOR as u64).expect("small");
            let step = room.min(bytes.len() - done);
            let held = is_held.entry(place / SECTOR as u64).or_insert(false);
            *held = *held || numbers.below(100) < holds_back;
            if !*held {
                disk.write_at(&bytes[done..done + step], place)
                    .expect("a plain file");
            }
            done += step;
        }
    }
}

/// A disk on which all before `work` has been done.
fn before(work: Work) -> (BlockFile, Arc<Disk>) {
    let (disk, watch) = Disk::blank(layout().disk_bytes);
    let history: &[Work] = match work {
        Work::Stage => &[],
        Work::Restage => {
            stage(&disk, &other_layout()).expect("nothing fails");
            &[]
        }
        Work::Deploy(_) => &[Work::Stage],
        Work::Renew(_) | Work::NewKernel(_) => &[Work::Stage, Work::Deploy(KERNELS[0])],
    };
    for earlier in history {
        earlier.run(&disk).expect("nothing fails");
    }
    watch.take_log();
    (disk, watch)
}

const WORKS: [Work; 5] = [
    Work::Stage,
    Work::Restage,
    Work::Deploy(KERNELS[0]),
    Work::Renew(KERNELS[1]),
    Work::NewKernel(KERNELS[1]),
];

/// What firmware may find when the power goes during `work`.
fn may_start(work: Work, found: Starts) -> bool {
    match work {
        Work::Stage | Work::Restage => matches!(found, Starts::Nothing | Starts::Agent(IMAGE)),
        Work::Deploy(kernel) => [Starts::Agent(IMAGE), Starts::Os(kernel)].contains(&found),
        Work::NewKernel(kernel) => [Starts::Os(KERNELS[0]), Starts::Os(kernel)].contains(&found),
        Work::Renew(kernel) => [
            Starts::Agent(IMAGE),
            Starts::Agent(IMAGE_NEW),
            Starts::Os(KERNELS[0]),
            Starts::Os(kernel),
        ]
        .contains(&found),
    }
}

/// What must be there after `work`, however often it was cut.
fn assert_done(work: Work, disk: &BlockFile, place: &str) {
    assert_table_is_whole(disk);
    let (starting, content) = match work {
        Work::Stage | Work::Restage => (Starts::Agent(IMAGE), DiskContent::StagedHere),
        Work::Deploy(kernel) | Work::Renew(kernel) | Work::NewKernel(kernel) => {
            (Starts::Os(kernel), DiskContent::DeployedHere)
        }
    };
    assert_eq!(starts(disk), Ok(starting), "{place}");
    assert_eq!(guard::inspect(disk, SERIAL, UUID).expect("a disk"), content);
}

/// Every how many states `fsck.vfat` looks too: it takes longer than all the rest.
const FSCK_EVERY: u64 = 20;

fn explore(work: Work, states: u64, seed: u64) -> u64 {
    let (disk, watch) = before(work);
    work.run(&disk).expect("nothing fails");
    assert_done(work, &disk, "without a cut");
    let stretches = stretches(watch.take_log());
    // The same disk again, without the work.
    let (disk, watch) = before(work);
    let each = (states / stretches.len() as u64).max(3);
    let (mut looked, mut most) = (0, 0);
    for (number, stretch) in stretches.iter().enumerate() {
        for n in 0..each {
            let own_seed = seed
                .wrapping_mul(0x1_0001)
                .wrapping_add((number as u64) << 32 | n);
            let mut numbers = Chance::new(own_seed);
            match n {
                0 => {}
                1 => stretch
                    .iter()
                    .for_each(|(at, bytes)| disk.write_at(bytes, *at).expect("a plain file")),
                _ => cut(&disk, stretch, &mut numbers),
            }
            let place = format!("{work:?}, stretch {number}, state {n}, seed {seed}");
            let found = starts(&disk).unwrap_or_else(|wrong| panic!("{place}: {wrong}"));
            assert!(may_start(work, found), "{place}: {found:?} starts");
            let left = watch.log_length();
            work.run(&disk)
                .unwrap_or_else(|error| panic!("{place}: {error:#}"));
            most = most.max(watch.bytes_written_after(left));
            assert_done(work, &disk, &place);
            if looked % FSCK_EVERY == 0 {
                assert_esp_is_sound(&disk, &place);
            }
            watch.roll_back();
            looked += 1;
        }
        for (at, bytes) in stretch {
            disk.write_at(bytes, *at).expect("a plain file");
        }
        watch.take_log();
    }
    eprintln!(
        "{work:?}: {looked} states of {} stretches, at most {most} bytes written again",
        stretches.len()
    );
    looked
}

#[test]
fn every_state_that_a_power_cut_leaves_is_survived() {
    let states = variable("FORESTAGE_CRASH_STATES").unwrap_or(2_000);
    let seed = variable("FORESTAGE_CRASH_SEED").unwrap_or(1);
    let looked: u64 = WORKS
        .into_iter()
        .map(|work| explore(work, states.div_ceil(WORKS.len() as u64), seed))
        .sum();
    assert!(looked >= states * 9 / 10, "only {looked} states");
}

/// Every how many operations one fails, so that about `wanted` do in all.
fn step_of(operations: u64, wanted: u64) -> u64 {
    (operations * WORKS.len() as u64 / wanted).max(1)
}

#[test]
fn every_operation_may_fail_once() {
    let wanted = variable("FORESTAGE_FAILING_OPERATIONS").unwrap_or(300);
    let seed = variable("FORESTAGE_CRASH_SEED").unwrap_or(1);
    for work in WORKS {
        let (disk, watch) = before(work);
        watch.fail_at(None);
        work.run(&disk).expect("nothing fails");
        let operations = watch.operations();
        watch.roll_back();
        let (mut operation, mut failed) = (1 + seed % step_of(operations, wanted), 0);
        while operation <= operations {
            watch.fail_at(Some(operation));
            let ended = work.run(&disk);
            watch.fail_at(None);
            let place = format!("{work:?}, after operation {operation} had failed");
            if ended.is_ok() {
                // What may be passed over must not have mattered.
                assert_done(work, &disk, &place);
            }
            work.run(&disk)
                .unwrap_or_else(|error| panic!("{place}: {error:#}"));
            assert_done(work, &disk, &place);
            watch.roll_back();
            operation += step_of(operations, wanted);
            failed += 1;
        }
        eprintln!("{work:?}: {failed} of {operations} operations failed once");
    }
}

#[test]
fn a_mark_is_never_half_a_mark() {
    let (disk, watch) = Disk::blank(layout().disk_bytes);
    guard::write_mark(&disk, &StagingMark::new(SERIAL, UUID, MarkState::Staged))
        .expect("a plain file");
    let log = watch.take_log();
    assert!(
        matches!(&log[..], [Done::Write(at, bytes), Done::Sync] if at % 512 == 0 && bytes.len() == SECTOR)
    );
}
