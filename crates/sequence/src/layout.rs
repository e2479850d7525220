//! The layout of a disk, decided before anything is written.

use serde::{Deserialize, Serialize};
use wire::layout::VolumeRole;

use crate::ports::StepError;

/// A disk and the volumes it shall have, in order, aligned to 1 MiB.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Layout {
    /// Where the kernel shows the disk.
    pub disk: String,
    /// The size of the disk in bytes.
    pub disk_bytes: u64,
    /// The volumes, in order, without overlap; the first begins at 1 MiB, the last ends at least 1 MiB before the end.
    pub volumes: Vec<Volume>,
}

/// One volume of a [`Layout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Volume {
    /// What it is for.
    pub role: VolumeRole,
    /// Where it begins, in bytes; a multiple of 1 MiB.
    pub offset_bytes: u64,
    /// Its length in bytes; a multiple of 1 MiB.
    pub size_bytes: u64,
}

/// All offsets are multiples of this: the erase block of every disk we know divides it.
pub const ALIGNMENT_BYTES: u64 = 1 << 20;

impl Layout {
    /// Places volumes of these sizes on a disk, in order; a `None` size gets what the others leave.
    ///
    /// # Errors
    /// The disk is too small, or not exactly one volume takes the rest.
    pub fn new(
        disk: &str,
        disk_bytes: u64,
        volumes: &[(VolumeRole, Option<u64>)],
    ) -> Result<Self, StepError> {
        let up = |bytes: u64| bytes.checked_next_multiple_of(ALIGNMENT_BYTES);
        let fixed = volumes
            .iter()
            .filter_map(|(_, size)| *size)
            .try_fold(0_u64, |sum, size| sum.checked_add(up(size)?));
        let rests = volumes.iter().filter(|(_, size)| size.is_none()).count();
        // 1 MiB at either end for the GPT and its backup, and at least 1 MiB for the volume that takes the rest.
        let needed = fixed.and_then(|fixed| fixed.checked_add(3 * ALIGNMENT_BYTES));
        let (Some(fixed), Some(needed), true) = (fixed, needed, rests <= 1) else {
            return Err(StepError::refused("the volumes don't add up")
                .hint("give every volume but one a size"));
        };
        let usable =
            (disk_bytes / ALIGNMENT_BYTES * ALIGNMENT_BYTES).saturating_sub(2 * ALIGNMENT_BYTES);
        if disk_bytes < needed {
            let (needed, present) = (
                crate::size::in_words(needed),
                crate::size::in_words(disk_bytes),
            );
            return Err(StepError::refused(format!(
                "disk {disk} is too small: the volumes need {needed}, the disk has {present}"
            ))
            .hint("use a larger disk, or make the volumes of the sequence smaller"));
        }
        let mut offset_bytes = ALIGNMENT_BYTES;
        let mut placed = Vec::with_capacity(volumes.len());
        for (role, size) in volumes {
            let size_bytes = size.and_then(up).unwrap_or(usable - fixed);
            placed.push(Volume {
                role: *role,
                offset_bytes,
                size_bytes,
            });
            offset_bytes += size_bytes;
        }
        Ok(Self {
            disk: disk.to_owned(),
            disk_bytes,
            volumes: placed,
        })
    }

    /// The volume of this role.
    #[must_use]
    pub fn volume(&self, role: VolumeRole) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.role == role)
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::size::in_words;
        write!(f, "lay out {} ({}):", self.disk, in_words(self.disk_bytes))?;
        for (index, volume) in self.volumes.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma} {} {}", volume.role, in_words(volume.size_bytes))?;
        }
        f.write_str("; erases it unless it is laid out like this already")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::layout::VolumeRole;

    use super::{ALIGNMENT_BYTES, Layout};

    proptest! {
        #[test]
        fn volumes_are_aligned_and_never_overlap(disk: u64, esp: u64, staging: u64) {
            let volumes = [(VolumeRole::Esp, Some(esp)), (VolumeRole::Os, None), (VolumeRole::Staging, Some(staging))];
            let Ok(layout) = Layout::new("/dev/x", disk, &volumes) else { return Ok(()) };
            let mut end = ALIGNMENT_BYTES;
            for volume in &layout.volumes {
                prop_assert_eq!(volume.offset_bytes, end);
                prop_assert_eq!(volume.size_bytes % ALIGNMENT_BYTES, 0);
                end += volume.size_bytes;
            }
            prop_assert!(end + ALIGNMENT_BYTES <= disk);
        }
    }

    #[test]
    fn a_small_disk_is_refused_with_both_sizes() {
        let volumes = [
            (VolumeRole::Esp, Some(1 << 30)),
            (VolumeRole::Os, None),
            (VolumeRole::Staging, Some(8 << 30)),
        ];
        let error = Layout::new("/dev/nvme0n1", 8 << 30, &volumes).unwrap_err();
        insta::assert_snapshot!(error.chain().join("\n"));
        let layout = Layout::new("/dev/nvme0n1", 64 << 30, &volumes).unwrap();
        insta::assert_snapshot!(layout);
    }
}
