//! The data: Debian as it was released, the same with all security updates, and images of both.

use std::path::{Path, PathBuf};
use std::process::Command;

/// How much is measured with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    name: &'static str,
    /// What `mmdebstrap` starts from.
    variant: &'static str,
    /// The packages in it.
    packages: &'static str,
    image_mib: &'static str,
    /// The partition that images are applied to.
    target_mib: &'static str,
}

const PROFILES: [Profile; 2] = [
    Profile {
        name: "desktop",
        variant: "standard",
        packages: "linux-image-amd64,firefox-esr,libreoffice-writer,default-jre,systemd-sysv,locales",
        image_mib: "3072",
        target_mib: "5120",
    },
    // For trying whether everything works; its figures mean little.
    Profile {
        name: "small",
        variant: "minbase",
        packages: "openjdk-17-jre-headless",
        image_mib: "768",
        target_mib: "1024",
    },
];

/// Where the data are.
pub(crate) struct Data {
    /// Kept from run to run.
    pub(crate) kept: PathBuf,
}

impl Profile {
    pub(crate) fn named(name: &str) -> Option<Self> {
        PROFILES.into_iter().find(|profile| profile.name == name)
    }

    /// Makes whatever isn't there yet, in a folder of its own below `below`.
    pub(crate) fn prepare(self, below: &Path) -> Data {
        let kept = below.join(self.name);
        std::fs::create_dir_all(&kept).unwrap();
        let status = Command::new("bash")
            .args(["-euo", "pipefail", "-c", PREPARE])
            .env("VARIANT", self.variant)
            .env("PACKAGES", self.packages)
            .env("IMAGE_MIB", self.image_mib)
            .env("TARGET_MIB", self.target_mib)
            .env("OURS", crate::ours::command())
            .current_dir(&kept)
            // Figures alone go to the standard output.
            .stdout(std::io::stderr())
            .status()
            .unwrap();
        assert!(status.success(), "the data could not be prepared: {status}");
        Data { kept }
    }
}

/// Each part is made beside and renamed, so that a run cut off goes on where it was. What a missing peer would make is
/// left out.
const PREPARE: &str = r##"
[ "$(id -u)" = 0 ] || { echo "run this as root: it needs loop devices and cold caches" >&2; exit 1; }
# Two runs at once must not take each other's halves for leftovers; nor may a chroot's /proc be emptied as one.
exec 9> lock; flock 9
clear_away() { rm -rf --one-file-system "$@"; }
has() { command -v "$1" >/dev/null; }
umask 022
echo "deb http://deb.debian.org/debian bookworm main" > old.list
{ cat old.list; echo "deb http://deb.debian.org/debian-security bookworm-security main"; } > new.list
for version in old new; do
    [ -e "tree-$version" ] || {
        echo "installing Debian ($version), some minutes" >&2
        clear_away part
        mmdebstrap --quiet --variant="$VARIANT" --aptopt='APT::Install-Recommends "0"' --dpkgopt=force-unsafe-io \
            --include="$PACKAGES" --format=dir bookworm part "$version.list"
        # Devices are left out, so that nobody is slowed by eight of them.
        rm -rf part/dev/* part/var/cache/apt/*.bin part/var/lib/apt/lists/*
        mv part "tree-$version"
    }
    [ -e "$version.img" ] || {
        rm -f part.img
        E2FSPROGS_FAKE_TIME=1700000000 mke2fs -q -t ext4 -d "tree-$version" -U 5f3a1d62-0000-4000-8000-000000000001 \
            -E hash_seed=5f3a1d62-0000-4000-8000-000000000002,nodiscard,lazy_itable_init=0 part.img "${IMAGE_MIB}M"
        mv part.img "$version.img"
    }
    # Volumes as Windows has them: the same files, put there by the program that applies Windows images.
    has wimlib-imagex && has mkntfs && [ ! -e "$version.ntfs" ] && {
        rm -f part.wim part.ntfs
        wimlib-imagex capture "tree-$version/usr" part.wim --compress=none --quiet
        truncate -s "${IMAGE_MIB}M" part.ntfs
        mkntfs -q -Q -F -s 512 -p 0 -H 0 -S 0 part.ntfs 2>/dev/null >&2
        wimlib-imagex apply part.wim 1 part.ntfs --quiet
        rm part.wim
        mv part.ntfs "$version.ntfs"
    }
done
# The next version: files that make up one byte in twenty have other bytes throughout, packed as well as before.
[ -e tree-next ] || {
    clear_away part; cp -a tree-new part
    (cd part && find . -xdev -type f -size +0 -printf '%s %p\n' | sort -k2 | awk '{ sum += $1; if (sum >= 20 * $1 && $1 * 20 <= 40000000) { sum -= 20 * $1; sub(/^[0-9]+ /, ""); print } }' > ../changed
     while IFS= read -r file; do tr a-y b-z < "$file" > ../swap; cat ../swap > "$file"; done < ../changed; rm ../swap)
    mv part tree-next
}
# What the peers apply.
has mksquashfs && [ ! -e tree.squashfs ] && { rm -f part.sq; mksquashfs tree-new part.sq -comp zstd -Xcompression-level 3 -no-progress -quiet; mv part.sq tree.squashfs; }
[ -e tree.tar.zst ] || { tar -C tree-new -c . | zstd -q -3 -T0 -f -o part.zst; mv part.zst tree.tar.zst; }
has wimlib-imagex && [ ! -e tree.wim ] && { rm -f part.wim; wimlib-imagex capture tree-new part.wim --unix-data --compress=fast --quiet; mv part.wim tree.wim; }
has partclone.ext4 && [ ! -e image.pcl.zst ] && { partclone.ext4 -c -F -s new.img -o - -q -L /dev/null 2>/dev/null | zstd -q -3 -T0 -f -o part.pcl; mv part.pcl image.pcl.zst; }
# What we apply, made anew in each run: how it is cut may have changed.
rm -rf image.library tree.library stage.bundle
$OURS capture-image new.img image.library > image.manifest
$OURS build tree-new tree.library > tree.manifest
$OURS bundle image.library image.manifest stage.bundle
# What lies on a disk before: nothing of it must be of use.
[ -e noise ] || { head -c "${IMAGE_MIB}M" /dev/urandom > part.noise; mv part.noise noise; }
[ -e target ] || { fallocate -l "${TARGET_MIB}M" part; dd if=/dev/zero of=part bs=256K count=$((TARGET_MIB * 4)) conv=notrunc,fsync status=none; mv part target; }
"##;
