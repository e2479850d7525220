//! The wipe guard: what is on a disk, and whether it may be written.

use std::io;

use uuid::Uuid;
use wire::facts::DiskContent;
use wire::mark::{MARK_BYTES, MARK_OFFSET, MarkState, StagingMark};

use crate::block::BlockFile;

/// A disk counts as blank if this much at both ends holds only zeros: every partition table and the labels of all
/// filesystems and volume managers we know of lie there.
const ENDS_BYTES: u64 = 1 << 20;
const STEP_BYTES: usize = 64 << 10;

/// Looks at a disk that is not the boot medium.
pub(crate) fn inspect(
    disk: &BlockFile,
    serial: &str,
    uuid: Option<Uuid>,
) -> io::Result<DiskContent> {
    if let Some(mark) = read_mark(disk)? {
        return Ok(match (mark.is_for(serial, uuid), mark.state) {
            (true, MarkState::Staged) => DiskContent::StagedHere,
            (true, MarkState::Deployed) => DiskContent::DeployedHere,
            (false, _) => DiskContent::StagedElsewhere,
        });
    }
    let tail = disk.length().saturating_sub(ENDS_BYTES);
    let blank = is_zero(disk, 0, ENDS_BYTES.min(disk.length()))?
        && is_zero(disk, tail, disk.length() - tail)?;
    Ok(if blank {
        DiskContent::Blank
    } else {
        DiskContent::Foreign
    })
}

/// The staging mark of a disk, if it has one.
pub(crate) fn read_mark(disk: &BlockFile) -> io::Result<Option<StagingMark>> {
    if disk.length() < ENDS_BYTES {
        return Ok(None);
    }
    let mut sector = [0; MARK_BYTES];
    disk.read_at(&mut sector, MARK_OFFSET)?;
    Ok(StagingMark::decode(&sector))
}

/// Writes the mark, durably. One sector: it is there whole or not at all.
pub(crate) fn write_mark(disk: &BlockFile, mark: &StagingMark) -> io::Result<()> {
    disk.write_at(&mark.encode(), MARK_OFFSET)?;
    disk.sync()
}

fn is_zero(disk: &BlockFile, from: u64, length: u64) -> io::Result<bool> {
    let mut buffer = vec![0; STEP_BYTES];
    let mut done = 0;
    while done < length {
        let step = usize::try_from(length - done)
            .unwrap_or(STEP_BYTES)
            .min(STEP_BYTES);
        disk.read_at(&mut buffer[..step], from + done)?;
        if buffer[..step].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        done += step as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::sparse;

    fn check(disk: &BlockFile) -> DiskContent {
        inspect(disk, "PF3ABC", Some(Uuid::from_u128(1))).unwrap()
    }

    #[test]
    fn a_disk_is_what_its_ends_and_its_mark_say() {
        let disk = sparse(8 << 20);
        assert_eq!(check(&disk), DiskContent::Blank);
        disk.write_at(b"x", 4 << 20).unwrap();
        assert_eq!(
            check(&disk),
            DiskContent::Blank,
            "only the ends are looked at"
        );
        disk.write_at(b"x", (8 << 20) - 1).unwrap();
        assert_eq!(check(&disk), DiskContent::Foreign);
        let mut mark = StagingMark::new("PF3ABC", Some(Uuid::from_u128(1)), MarkState::Staged);
        write_mark(&disk, &mark).unwrap();
        assert_eq!(check(&disk), DiskContent::StagedHere);
        mark.state = MarkState::Deployed;
        write_mark(&disk, &mark).unwrap();
        assert_eq!(check(&disk), DiskContent::DeployedHere);
        write_mark(
            &disk,
            &StagingMark::new("PF3ABD", Some(Uuid::from_u128(1)), MarkState::Staged),
        )
        .unwrap();
        assert_eq!(check(&disk), DiskContent::StagedElsewhere);
    }

    #[test]
    fn a_torn_mark_is_foreign_and_a_tiny_disk_is_readable() {
        let disk = sparse(8 << 20);
        let mark = StagingMark::new("PF3ABC", Some(Uuid::from_u128(1)), MarkState::Staged).encode();
        disk.write_at(&mark[..300], MARK_OFFSET).unwrap();
        assert_eq!(check(&disk), DiskContent::Foreign);
        assert_eq!(check(&sparse(4096)), DiskContent::Blank);
        assert_eq!(check(&sparse(0)), DiskContent::Blank);
    }
}
