//! Making a disk look like a layout: guard, mark, table, filesystems, in this order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sequence::layout::Layout;
use uuid::Uuid;
use wire::facts::DiskContent;
use wire::layout::VolumeRole;
use wire::mark::{MarkState, StagingMark};

use super::volumes::{Volumes, run_tool};
use crate::block::BlockFile;
use crate::{clock, esp, gpt, guard, log};

/// What old filesystems leave at the start of a volume; ext4, FAT and NTFS keep their labels in the first 128 KiB.
const LABELS_BYTES: u64 = 1 << 20;
const REREAD_WAIT: Duration = Duration::from_secs(20);
const LABEL: &[u8; 11] = b"FORESTAGE  ";

/// A disk that must not be written. Trying again would not help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refused(pub(crate) String);

/// What the table of a disk looked like before we wrote anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// It had exactly the wanted table, and our mark.
    Same,
    /// It was blank, or had our mark and another table.
    Other,
}

/// Looks whether `disk` may be written for `layout`, and whether it needs to be. The last look before the first write.
pub(crate) fn examine(
    disk: &BlockFile,
    layout: &Layout,
    wanted: &[gpt::Partition],
    (serial, uuid): (&str, Option<Uuid>),
) -> Result<Before> {
    if disk.length() != layout.disk_bytes {
        let text = format!(
            "{} has {} bytes now, {} when planned",
            layout.disk,
            disk.length(),
            layout.disk_bytes
        );
        return Err(Refused(text).into());
    }
    match guard::inspect(disk, serial, uuid)? {
        DiskContent::Blank => Ok(Before::Other),
        DiskContent::StagedHere if gpt::has_table(disk, wanted) => Ok(Before::Same),
        DiskContent::StagedHere => Ok(Before::Other),
        content => Err(Refused(format!("{} {}", layout.disk, in_words(content))).into()),
    }
}

fn in_words(content: DiskContent) -> &'static str {
    match content {
        DiskContent::DeployedHere => "holds a finished installation of this machine",
        DiskContent::StagedElsewhere => "was staged for another machine",
        DiskContent::BootMedium => "is the medium this machine was started from",
        DiskContent::Foreign => "holds data that are not ours",
        DiskContent::Blank | DiskContent::StagedHere => "may be written",
    }
}

/// Writes the mark, zeros where the volumes begin, and the table, durably and in this order.
pub(crate) fn write_mark_and_table(
    disk: &BlockFile,
    sector: u64,
    wanted: &[gpt::Partition],
    (serial, uuid): (&str, Option<Uuid>),
) -> Result<()> {
    // One sector, first of all: a cut from here on leaves a disk that the guard knows as ours.
    guard::write_mark(disk, &StagingMark::new(serial, uuid, MarkState::Staged))
        .context("cannot write the mark")?;
    erase_labels(disk, wanted).context("cannot erase old labels")?;
    gpt::write_table(
        disk,
        sector,
        gpt::partition_guid(serial, uuid, "disk"),
        wanted,
    )
}

/// Zeros where the volumes begin, so that nothing of an earlier layout shows through. Before the table, because a table
/// that is there already is taken for one whose volumes are ours.
fn erase_labels(disk: &BlockFile, volumes: &[gpt::Partition]) -> Result<()> {
    for volume in volumes {
        let zeros = vec![0; usize::try_from(LABELS_BYTES.min(volume.size_bytes))?];
        disk.write_at(&zeros, volume.offset_bytes)?;
    }
    disk.sync()?;
    Ok(())
}

/// Makes the disk of `layout` look like it. The staging partition is mounted afterwards.
pub(crate) fn write_layout(volumes: &Volumes, layout: &Layout, say: &dyn Fn(&str)) -> Result<()> {
    let (serial, uuid) = volumes.kernel.identity();
    let path = PathBuf::from(&layout.disk);
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .context("a disk without a name")?
        .to_owned();
    let disk_facts = volumes
        .kernel
        .facts()
        .disks
        .into_iter()
        .find(|disk| disk.path == layout.disk);
    let is_medium = disk_facts
        .with_context(|| format!("{} is gone", layout.disk))?
        .content
        == DiskContent::BootMedium;
    if is_medium {
        return Err(Refused(format!(
            "{} {}",
            layout.disk,
            in_words(DiskContent::BootMedium)
        ))
        .into());
    }
    let wanted = gpt::partitions_of(layout, &serial, uuid)?;
    let disk =
        BlockFile::read_write(&path).with_context(|| format!("cannot open {}", layout.disk))?;
    let before = examine(&disk, layout, &wanted, (&serial, uuid))?;
    if before == Before::Other {
        say("writing the partition table");
        volumes.release_target()?;
        volumes.release_staging();
        write_mark_and_table(
            &disk,
            volumes.kernel.sector_bytes(&name),
            &wanted,
            (&serial, uuid),
        )?;
    }
    drop(disk);
    await_partitions(volumes, &path, &name, &wanted)?;
    make_esp(volumes, say)?;
    make_staging(volumes, before, say)
}

/// Has the kernel read the table again until it shows exactly the wanted partitions.
fn await_partitions(
    volumes: &Volumes,
    path: &Path,
    name: &str,
    wanted: &[gpt::Partition],
) -> Result<()> {
    let is_shown = || {
        let shown = volumes.kernel.partitions();
        let shown: Vec<_> = shown.iter().filter(|part| part.disk == name).collect();
        shown.len() == wanted.len()
            && wanted.iter().all(|wanted| {
                shown.iter().any(|part| {
                    part.number == wanted.number
                        && part.name == wanted.name
                        && part.size_bytes == wanted.size_bytes
                        && part.node.exists()
                })
            })
    };
    if is_shown() {
        return Ok(());
    }
    let mut last = None;
    let done = clock::wait_until(REREAD_WAIT, || {
        // The disk may be busy for a moment, while the kernel or another program looks at it.
        match std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
        {
            Ok(mut file) => {
                last = gptman::linux::reread_partition_table(&mut file)
                    .err()
                    .map(anyhow::Error::from)
            }
            Err(error) => last = Some(error.into()),
        }
        clock::wait_until(Duration::from_secs(2), is_shown)
    });
    if done {
        return Ok(());
    }
    let error = last
        .unwrap_or_else(|| anyhow::anyhow!("the kernel shows other partitions than were written"));
    Err(error).with_context(|| format!("the partitions of {} do not appear", path.display()))
}

fn make_esp(volumes: &Volumes, say: &dyn Fn(&str)) -> Result<()> {
    let Some(partition) = volumes.find(VolumeRole::Esp)? else {
        return Ok(());
    };
    ensure!(
        !volumes.is_node_mounted(&partition.node),
        "{} is mounted",
        partition.node.display()
    );
    let device = BlockFile::read_write(&partition.node)?;
    prepare_esp(&device, say)
}

/// An ESP is kept if it boots: then all of it was made durable before. Anything less is made anew.
pub(crate) fn prepare_esp(device: &BlockFile, say: &dyn Fn(&str)) -> Result<()> {
    if esp::Fat::open(device).is_ok_and(|fat| fat.has_file(esp::FIRMWARE_PATH)) {
        return Ok(());
    }
    say("formatting the ESP");
    esp::format(device, LABEL)
}

fn make_staging(volumes: &Volumes, before: Before, say: &dyn Fn(&str)) -> Result<()> {
    if before == Before::Same && volumes.staging().is_some() {
        return Ok(());
    }
    if before == Before::Same {
        match volumes.mount_staging() {
            Ok(_) => return Ok(()),
            Err(error) => log::warn(
                "the staging partition is made anew, as it can't be mounted",
                &error,
            ),
        }
    }
    say("formatting the staging partition");
    let node = volumes.volume(VolumeRole::Staging)?.node;
    let options = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
    run_tool(
        "mke2fs",
        &[
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "forestage-stg",
            "-m",
            "0",
            "-E",
            options,
        ],
        &node,
    )?;
    if let Err(error) = volumes.mount_staging() {
        bail!("the fresh staging partition can't be mounted: {error:#}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::sparse;
    use crate::gpt::tests::layout;

    const NAMES: (&str, Option<Uuid>) = ("PF3ABC", Some(Uuid::from_u128(1)));

    fn digest(disk: &BlockFile) -> blake3::Hash {
        let mut block = vec![0; 1 << 20];
        let step = block.len() as u64;
        assert_eq!(disk.length() % step, 0, "every byte is hashed");
        let mut hasher = blake3::Hasher::new();
        for at in 0..disk.length() / step {
            disk.read_at(&mut block, at * step).unwrap();
            hasher.update(&block);
        }
        hasher.finalize()
    }

    #[test]
    fn a_blank_disk_is_written_once_and_then_the_same() {
        let disk = sparse(256 << 20);
        let wanted = gpt::partitions_of(&layout(), NAMES.0, NAMES.1).unwrap();
        assert_eq!(
            examine(&disk, &layout(), &wanted, NAMES).unwrap(),
            Before::Other
        );
        write_mark_and_table(&disk, 512, &wanted, NAMES).unwrap();
        assert_eq!(
            examine(&disk, &layout(), &wanted, NAMES).unwrap(),
            Before::Same
        );
        let first = digest(&disk);
        write_mark_and_table(&disk, 512, &wanted, NAMES).unwrap();
        assert_eq!(digest(&disk), first, "writing twice is writing once");
    }

    #[test]
    fn a_cut_after_the_mark_goes_on() {
        let disk = sparse(256 << 20);
        let wanted = gpt::partitions_of(&layout(), NAMES.0, NAMES.1).unwrap();
        guard::write_mark(
            &disk,
            &StagingMark::new(NAMES.0, NAMES.1, MarkState::Staged),
        )
        .unwrap();
        assert_eq!(
            examine(&disk, &layout(), &wanted, NAMES).unwrap(),
            Before::Other
        );
    }

    #[test]
    fn refusals_write_nothing() {
        let wanted = gpt::partitions_of(&layout(), NAMES.0, NAMES.1).unwrap();
        let foreign = sparse(256 << 20);
        foreign.write_at(b"NTFS", 3).unwrap();
        let other = sparse(256 << 20);
        guard::write_mark(
            &other,
            &StagingMark::new("PF3XYZ", NAMES.1, MarkState::Staged),
        )
        .unwrap();
        let deployed = sparse(256 << 20);
        guard::write_mark(
            &deployed,
            &StagingMark::new(NAMES.0, NAMES.1, MarkState::Deployed),
        )
        .unwrap();
        for disk in [foreign, other, deployed, sparse(255 << 20)] {
            let before = digest(&disk);
            let error = examine(&disk, &layout(), &wanted, NAMES).unwrap_err();
            assert!(error.downcast_ref::<Refused>().is_some(), "{error}");
            assert_eq!(digest(&disk), before);
        }
    }
}
