//! Where files lie inside an NTFS volume, and whether Windows has let go of it. Layout: the documentation of the
//! Linux-NTFS project.
//!
//! The records of the master file table are read one after the other. One that goes on with a file whose attributes didn't
//! fit into its first record is a record like any other, so attribute lists need not be followed.

use super::{Survey, TABLE_BYTES, Unsettled, array_at, u16_at, u32_at, u64_at};

const BOOT_SECTOR_BYTES: usize = 512;
const NAME: &[u8; 8] = b"NTFS    ";
/// The largest that Windows makes.
const CLUSTER_BYTES_MAX: u64 = 2 << 20;
const RECORD_BYTES_MAX: u64 = 4096;
/// The last two bytes of each such stretch of a record stand elsewhere: so a record that was half written is noticed.
const PROTECTED_BYTES: usize = 512;
const RECORD_IN_USE: u16 = 1;
/// A reference to a record is its number in so many bits, and how often the record was used.
const RECORD_NUMBER: u64 = (1 << 48) - 1;
/// The number of the top folder's record.
const TOP_FOLDER: u64 = 5;
const FILE_NAME: u32 = 0x30;
const VOLUME_INFORMATION: u32 = 0x70;
const DATA: u32 = 0x80;
const END: u32 = 0xFFFF_FFFF;
const VOLUME_DIRTY: u16 = 1;
const HIBERNATION_FILE: &[u8] = b"hiberfil.sys";
const HIBERNATED: &[u8] = b"hibr";
/// A table in more pieces is no sound one: Windows keeps an eighth of the volume free for it.
const TABLE_RUNS_MAX: usize = 1 << 16;

/// Takes note of where everything lies; `None` when there is no sense in going on.
pub(super) fn survey(survey: &mut Survey<'_>) -> Option<()> {
    let volume = Volume::open(survey)?;
    volume.each_record(survey, &mut |record, survey| {
        for attribute in attributes(record) {
            for run in volume.runs(attribute) {
                survey.add(run.offset, run.bytes)?;
            }
        }
        Some(())
    })
}

/// Why the volume can't be used elsewhere yet, if Windows says so.
pub(super) fn unsettled(survey: &mut Survey<'_>) -> Option<Unsettled> {
    let volume = Volume::open(survey)?;
    let (mut is_dirty, mut is_hibernated) = (false, false);
    let _stopped = volume.each_record(survey, &mut |record, survey| {
        for attribute in attributes(record) {
            match u32_at(attribute, 0)? {
                VOLUME_INFORMATION => {
                    is_dirty |= u16_at(resident(attribute)?, 10)? & VOLUME_DIRTY != 0;
                }
                FILE_NAME if names_hibernation_file(resident(attribute)?) => {
                    is_hibernated |= volume.begins_as_hibernated(record, survey)?;
                }
                _ => {}
            }
        }
        Some(())
    });
    // A hibernated one is often marked as dirty, too.
    if is_hibernated {
        Some(Unsettled::NtfsHibernated)
    } else {
        is_dirty.then_some(Unsettled::NtfsDirty)
    }
}

#[derive(Clone, Copy)]
struct Run {
    offset: u64,
    bytes: u64,
}

struct Volume {
    cluster_bytes: u64,
    record_bytes: usize,
    /// Where the master file table begins.
    table: u64,
}

impl Volume {
    fn open(survey: &mut Survey<'_>) -> Option<Self> {
        let mut boot = [0; BOOT_SECTOR_BYTES];
        survey.read(&mut boot, 0)?;
        if &array_at(&boot, 3)? != NAME {
            return None;
        }
        let sector_bytes = u64::from(u16_at(&boot, 0x0B)?);
        let cluster_bytes = match boot[0x0D] {
            // More than 128 sectors are told as a power of two.
            shift @ 0xF0.. => sector_bytes << (0x100 - u32::from(shift)),
            sectors => sector_bytes * u64::from(sectors),
        };
        let is_cluster = cluster_bytes.is_power_of_two() && cluster_bytes <= CLUSTER_BYTES_MAX;
        // A number of clusters, or, below zero, a power of two.
        let record_bytes = match array_at(&boot, 0x40).map(i8::from_le_bytes)? {
            clusters @ 0.. => cluster_bytes.checked_mul(u64::from(clusters.unsigned_abs()))?,
            shift => 1_u64.checked_shl(u32::from(shift.unsigned_abs()))?,
        };
        let is_record = record_bytes.is_power_of_two()
            && (PROTECTED_BYTES as u64..=RECORD_BYTES_MAX).contains(&record_bytes);
        if !is_cluster || !is_record {
            return None;
        }
        Some(Self {
            cluster_bytes,
            record_bytes: usize::try_from(record_bytes).ok()?,
            table: u64_at(&boot, 0x30)?.checked_mul(cluster_bytes)?,
        })
    }

    /// Looks at all records in use. Damaged ones are passed over; `None` when there is no sense in going on.
    fn each_record(
        &self,
        survey: &mut Survey<'_>,
        see: &mut dyn FnMut(&[u8], &mut Survey<'_>) -> Option<()>,
    ) -> Option<()> {
        let mut first = vec![0; self.record_bytes];
        survey.read(&mut first, self.table)?;
        let mut table = Vec::new();
        for attribute in attributes(restored(&mut first)?) {
            self.go_on_with_table(attribute, &mut table)?;
        }
        let mut buffer = vec![0; TABLE_BYTES];
        let mut next = 0;
        // More of the table is found in the table itself.
        while let Some(run) = table.get(next).copied() {
            next += 1;
            let (mut at, mut left) = (run.offset, run.bytes);
            while left > 0 {
                let part = usize::try_from(left.min(TABLE_BYTES as u64)).ok()?;
                survey.read(&mut buffer[..part], at)?;
                for record in buffer[..part].chunks_exact_mut(self.record_bytes) {
                    if survey.is_full() {
                        return None;
                    }
                    let _damaged = self.record(record, survey, &mut table, see).is_none();
                }
                at += part as u64;
                left -= part as u64;
            }
        }
        Some(())
    }

    fn record(
        &self,
        record: &mut [u8],
        survey: &mut Survey<'_>,
        table: &mut Vec<Run>,
        see: &mut dyn FnMut(&[u8], &mut Survey<'_>) -> Option<()>,
    ) -> Option<()> {
        let record = restored(record)?;
        if u16_at(record, 0x16)? & RECORD_IN_USE == 0 {
            return Some(());
        }
        // Zero in a file's first record. The table is the file with number zero.
        let goes_on_with = u64_at(record, 0x20)?;
        if goes_on_with != 0 && goes_on_with & RECORD_NUMBER == 0 {
            for attribute in attributes(record) {
                self.go_on_with_table(attribute, table)?;
            }
        }
        see(record, survey)
    }

    /// Whether the file of this record begins as Windows lets it begin while it is hibernated.
    fn begins_as_hibernated(&self, record: &[u8], survey: &mut Survey<'_>) -> Option<bool> {
        let mut begin = [0; 4];
        for data in attributes(record).filter(|attribute| u32_at(attribute, 0) == Some(DATA)) {
            match self.runs(data).next() {
                Some(run) => survey.read(&mut begin, run.offset)?,
                None => begin = array_at(resident(data)?, 0)?,
            }
            if begin.eq_ignore_ascii_case(HIBERNATED) {
                return Some(true);
            }
        }
        Some(false)
    }

    fn go_on_with_table(&self, attribute: &[u8], table: &mut Vec<Run>) -> Option<()> {
        if u32_at(attribute, 0)? == DATA {
            table.extend(self.runs(attribute));
        }
        (table.len() <= TABLE_RUNS_MAX).then_some(())
    }

    /// Where an attribute lies; nowhere if it is in the record itself.
    fn runs(&self, attribute: &[u8]) -> impl Iterator<Item = Run> {
        let is_outside = attribute.get(8) == Some(&1);
        let runs = u16_at(attribute, 0x20).filter(|_| is_outside);
        let mut rest = (runs.and_then(|at| attribute.get(usize::from(at)..))).unwrap_or_default();
        let mut cluster = 0_i64;
        std::iter::from_fn(move || {
            loop {
                let (sizes, behind) = rest.split_first()?;
                let (length, behind) = behind.split_at_checked(usize::from(sizes & 0xF))?;
                let (distance, behind) = behind.split_at_checked(usize::from(sizes >> 4))?;
                rest = behind;
                let clusters = u64::try_from(signed(length)?).ok().filter(|it| *it > 0)?;
                // A hole lies nowhere.
                if !distance.is_empty() {
                    cluster = cluster.checked_add(signed(distance)?)?;
                    return Some(Run {
                        offset: u64::try_from(cluster)
                            .ok()?
                            .checked_mul(self.cluster_bytes)?,
                        bytes: clusters.checked_mul(self.cluster_bytes)?,
                    });
                }
            }
        })
    }
}

/// The value of an attribute that is in its record.
fn resident(attribute: &[u8]) -> Option<&[u8]> {
    let is_inside = attribute.get(8) == Some(&0);
    let at = u16_at(attribute, 0x14).filter(|_| is_inside)?;
    attribute.get(usize::from(at)..)
}

/// Whether this is the name, in the top folder, of the file that holds what was in memory.
fn names_hibernation_file(name: &[u8]) -> bool {
    let is_in_top = u64_at(name, 0).is_some_and(|folder| folder & RECORD_NUMBER == TOP_FOLDER);
    let letters = HIBERNATION_FILE.iter().flat_map(|letter| [*letter, 0]);
    let is_as_long = name.get(0x40).copied().map(usize::from) == Some(HIBERNATION_FILE.len());
    let same = |(left, right): (u8, &u8)| left.eq_ignore_ascii_case(right);
    is_in_top
        && is_as_long
        && (name.get(0x42..0x42 + 2 * HIBERNATION_FILE.len()))
            .is_some_and(|found| letters.zip(found).all(same))
}

/// A number of one to eight bytes; `None` if it has none, or more.
fn signed(bytes: &[u8]) -> Option<i64> {
    let sign = match bytes.last()? {
        0x80.. => 0xFF,
        _ => 0,
    };
    let mut number = [sign; 8];
    number.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(number))
}

/// A record as it was before it was protected; `None` if it is none, or was half written.
fn restored(record: &mut [u8]) -> Option<&[u8]> {
    if &array_at(record, 0)? != b"FILE" {
        return None;
    }
    let kept = usize::from(u16_at(record, 4)?);
    let sign: [u8; 2] = array_at(record, kept)?;
    for index in 1..=record.len() / PROTECTED_BYTES {
        let original: [u8; 2] = array_at(record, kept + 2 * index)?;
        let end = record
            .get_mut(..index * PROTECTED_BYTES)?
            .last_chunk_mut()?;
        if *end != sign {
            return None;
        }
        *end = original;
    }
    Some(record)
}

/// The attributes of a record.
fn attributes(record: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = u16_at(record, 0x14).map_or(record.len(), usize::from);
    std::iter::from_fn(move || {
        let kind = u32_at(record, at)?;
        let length = usize::try_from(u32_at(record, at + 4)?).ok()?;
        let attribute = record.get(at..at.checked_add(length)?)?;
        at += length;
        (kind != END && length > 0).then_some(attribute)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::{FileStretch, file_stretches};

    const CLUSTER: u64 = 4096;
    /// The cluster at which the table begins.
    const TABLE: u8 = 4;

    /// A volume of 4 MiB that has these records, one after the other from the beginning of its table.
    fn volume(records: &[Vec<u8>]) -> std::fs::File {
        let mut boot = [0; 512];
        boot[3..11].copy_from_slice(b"NTFS    ");
        boot[0x0C] = 2;
        boot[0x0D] = 8;
        boot[0x30] = TABLE;
        boot[0x40] = 0xF6;
        let image = tempfile::tempfile().unwrap();
        image.set_len(4 << 20).unwrap();
        image.write_all_at(&boot, 0).unwrap();
        for (record, at) in records
            .iter()
            .zip((u64::from(TABLE) * CLUSTER..).step_by(1024))
        {
            image.write_all_at(record, at).unwrap();
        }
        image
    }

    /// The clusters of the stretches, and how many each has.
    fn found(image: &std::fs::File) -> Vec<(u64, u64)> {
        let in_clusters =
            |stretch: FileStretch| (stretch.offset / CLUSTER, stretch.bytes / CLUSTER);
        (file_stretches(image, 4 << 20).into_iter().map(in_clusters)).collect()
    }

    fn check(records: &[Vec<u8>]) -> Vec<(u64, u64)> {
        found(&volume(records))
    }

    /// An attribute that lies where these runs say.
    fn outside(kind: u8, runs: &[u8]) -> Vec<u8> {
        let mut attribute = vec![0; 0x40];
        attribute[0] = kind;
        attribute[8] = 1;
        attribute[0x20] = 0x40;
        attribute.extend_from_slice(runs);
        attribute.resize(attribute.len().next_multiple_of(8) + 8, 0);
        let length = u16::try_from(attribute.len()).unwrap();
        attribute[4..6].copy_from_slice(&length.to_le_bytes());
        attribute
    }

    /// A record in use that goes on with another, if that isn't zero.
    fn record(goes_on_with: u64, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut record = vec![0; 0x38];
        record[..4].copy_from_slice(b"FILE");
        record[4] = 0x30;
        record[6] = 3;
        record[0x14] = 0x38;
        record[0x16] = 1;
        record[0x20..0x28].copy_from_slice(&goes_on_with.to_le_bytes());
        record.extend(attributes.iter().flatten());
        record.extend_from_slice(&[0xFF; 4]);
        record.resize(1024, 0);
        let kept: Vec<u8> = [&[0xAB, 0xCD][..], &record[510..512], &record[1022..]].concat();
        record[0x30..0x36].copy_from_slice(&kept);
        record[510..512].copy_from_slice(&[0xAB, 0xCD]);
        record[1022..].copy_from_slice(&[0xAB, 0xCD]);
        record
    }

    /// The first record: the table has one cluster, which is four records.
    fn table() -> Vec<u8> {
        record(0, &[outside(0x80, &[0x11, 1, TABLE, 0])])
    }

    #[test]
    fn files_are_found() {
        assert_eq!(check(&[]), []);
        assert_eq!(check(&[table()]), [(4, 1)]);
        // Five clusters at 100; a hole of 3; 300 clusters 10 before the last ones; 1 at 400.
        let runs = [
            0x11, 5, 100, 0x01, 3, 0x12, 44, 1, 0xF6, 0x21, 1, 0x36, 1, 0,
        ];
        let file = record(0, &[outside(0x80, &runs)]);
        let folder = record(
            0,
            &[
                vec![0x10, 0, 0, 0, 8, 0, 0, 0],
                outside(0xA0, &[0x11, 2, 30, 0]),
            ],
        );
        let all = [(4, 1), (30, 2), (90, 300), (100, 5), (400, 1)];
        assert_eq!(check(&[table(), file.clone(), folder.clone()]), all);
        // What lies beyond the table isn't looked at, nor what isn't in use or half written.
        let [mut unused, mut torn] = [file.clone(), file.clone()];
        unused[0x16] = 0;
        torn[511] ^= 1;
        let records = [table(), unused, torn, folder, file];
        assert_eq!(check(&records), [(4, 1), (30, 2)]);
    }

    #[test]
    fn runs_across_a_protected_place_are_restored() {
        // Runs of one cluster each, every second one, that fill the whole record.
        let runs: Vec<u8> = [0x11, 1, 2].repeat(290);
        let found = check(&[table(), record(0, &[outside(0x80, &runs)])]);
        assert_eq!(found.len(), 290);
        assert_eq!(found.last(), Some(&(580, 1)));
    }

    #[test]
    fn a_table_in_pieces_is_found() {
        // The second record says that the table goes on at cluster 5; the fifth one lies there.
        let more = record(1 << 48, &[outside(0x80, &[0x11, 1, TABLE + 1, 0])]);
        let file = record(0, &[outside(0x80, &[0x11, 1, 100, 0])]);
        let empty = || record(0, &[]);
        let found = check(&[table(), more, empty(), empty(), file]);
        assert_eq!(found, [(4, 1), (5, 1), (100, 1)]);
    }

    #[test]
    fn a_table_that_never_ends_ends() {
        // It goes on where it is, again and again.
        let again = [vec![0x11, 1, TABLE], [0x11, 1, 0].repeat(200)].concat();
        let more = record(1 << 48, &[outside(0x80, &again)]);
        assert_eq!(check(&[table(), more.clone(), more]), [(4, 1)]);
    }

    #[test]
    fn nonsense_is_passed_over() {
        for runs in [
            &[0xFF; 40][..],
            &[0x99, 1],
            &[0x11, 0, 9, 0],
            &[0x11, 1, 0x80, 0],
            &[0x18; 9],
        ] {
            let file = record(0, &[outside(0x80, runs)]);
            assert_eq!(check(&[table(), file]), [(4, 1)], "{runs:?}");
        }
        let endless = record(0, &[vec![0; 8]]);
        assert_eq!(check(&[table(), endless]), [(4, 1)]);
        for (at, byte) in [
            (0x0C, 0),
            (0x0D, 3),
            (0x0D, 0xF0),
            (0x40, 0x80),
            (0x40, 4),
            (0x37, 0x7F),
        ] {
            let image = volume(&[table()]);
            image.write_all_at(&[byte], at).unwrap();
            assert_eq!(found(&image), [], "{byte} at {at}");
        }
    }
}
