//! Whether the log of an XFS filesystem ends with its being unmounted. Layout: the kernel's "XFS Algorithms & Data
//! Structures". All integers are big-endian.

use super::{Survey, TABLE_BYTES, Unsettled, array_at};

const SUPERBLOCK_BYTES: usize = 512;
const MAGIC: &[u8; 4] = b"XFSB";
/// The log is made of blocks of this length, whatever those of the disk are.
const LOG_BLOCK_BYTES: usize = 512;
const RECORD_MAGIC: u32 = 0xFEED_BABE;
/// No kernel makes a longer one.
const LOG_BYTES_MAX: u64 = 2 << 30;
/// One block of header describes so much of a record.
const RECORD_BYTES_A_HEADER: u32 = 32 << 10;
/// Longer records than the kernel writes.
const HEADERS_MAX: u32 = 8;
const OPERATION_UNMOUNTED: u8 = 0x20;

/// The last record of the log: its place in the order of all records, where it lies, and how it begins.
struct Record {
    number: u64,
    offset: u64,
    operations: u32,
    headers: u64,
}

/// Whether the last thing in the log is something else than that the filesystem was unmounted.
pub(super) fn unsettled(survey: &mut Survey<'_>) -> Option<Unsettled> {
    let (offset, bytes) = log(survey)?;
    // The log is read whole, even where it is large for its filesystem; it is no longer than that.
    survey.left = survey.left.max(bytes + LOG_BLOCK_BYTES as u64);
    // In an empty log there is nothing to be played.
    let last = last_record(survey, offset, bytes)?;
    let mut payload = [0; LOG_BLOCK_BYTES];
    survey.read(
        &mut payload,
        last.offset + last.headers * LOG_BLOCK_BYTES as u64,
    )?;
    let is_unmounted = last.operations == 1 && payload[9] & OPERATION_UNMOUNTED != 0;
    (!is_unmounted).then_some(Unsettled::XfsLog)
}

/// Where the log lies in the image, and how long it is; `None` if it lies on another disk.
fn log(survey: &mut Survey<'_>) -> Option<(u64, u64)> {
    let mut superblock = [0; SUPERBLOCK_BYTES];
    survey.read(&mut superblock, 0)?;
    if &array_at(&superblock, 0)? != MAGIC {
        return None;
    }
    let block_bytes = u64::from(u32_at(&superblock, 4)?);
    let start = u64_at(&superblock, 48)?;
    let blocks_of_group = u64::from(u32_at(&superblock, 84)?);
    let blocks = u64::from(u32_at(&superblock, 96)?);
    // A block is named by its allocation group and its place in there.
    let bits_in_group = u32::from(superblock[124]);
    let group = start.checked_shr(bits_in_group)?;
    let in_group = start - group.checked_shl(bits_in_group)?;
    let block = group.checked_mul(blocks_of_group)?.checked_add(in_group)?;
    let (offset, bytes) = (
        block.checked_mul(block_bytes)?,
        blocks.checked_mul(block_bytes)?,
    );
    let is_inside = start > 0 && offset.checked_add(bytes)? <= survey.image_bytes;
    (is_inside && bytes <= LOG_BYTES_MAX).then_some((offset, bytes))
}

fn last_record(survey: &mut Survey<'_>, offset: u64, bytes: u64) -> Option<Record> {
    let mut last: Option<Record> = None;
    let mut buffer = vec![0; TABLE_BYTES];
    let mut at = offset;
    while at < offset + bytes {
        let part = usize::try_from((offset + bytes - at).min(TABLE_BYTES as u64)).ok()?;
        survey.read(&mut buffer[..part], at)?;
        // Only a header begins like one: the first word of every other block is overwritten in the log.
        for (block, place) in buffer[..part]
            .chunks_exact(LOG_BLOCK_BYTES)
            .zip((at..).step_by(LOG_BLOCK_BYTES))
        {
            let number = u64_at(block, 16)?;
            let is_later = last.as_ref().is_none_or(|last| last.number < number);
            if u32_at(block, 0)? == RECORD_MAGIC && is_later {
                let headers = u32_at(block, 320)?.div_ceil(RECORD_BYTES_A_HEADER);
                last = Some(Record {
                    number,
                    offset: place,
                    operations: u32_at(block, 40)?,
                    headers: headers.clamp(1, HEADERS_MAX).into(),
                });
            }
        }
        at += part as u64;
    }
    last
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_be_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_be_bytes)
}
