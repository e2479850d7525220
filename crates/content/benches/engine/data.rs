//! The data: a Debian desktop as it was released, the same with all security updates, and images of both.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the data are.
pub(crate) struct Data {
    /// Kept from run to run.
    pub(crate) kept: PathBuf,
}

/// Makes whatever isn't there yet. `$FORESTAGE_BENCH_DATA`, else `~/.cache/forestage/bench`.
pub(crate) fn prepare() -> Data {
    let kept = std::env::var_os("FORESTAGE_BENCH_DATA").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/forestage/bench"),
        PathBuf::from,
    );
    std::fs::create_dir_all(&kept).unwrap();
    let ours = std::env::current_exe().unwrap();
    shell(&kept, &ours, PREPARE);
    Data { kept }
}

/// Runs a script with `$W` as the work folder.
pub(crate) fn shell(kept: &Path, ours: &Path, script: &str) {
    let status = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .env("W", kept)
        .env("OURS", format!("{} ours", ours.display()))
        .current_dir(kept)
        .status()
        .unwrap();
    assert!(status.success(), "the data could not be prepared: {status}");
}

/// Each part is made beside and renamed, so that a run cut off goes on where it was.
const PREPARE: &str = r##"
[ "$(id -u)" = 0 ] || { echo "run this as root: it needs loop devices" >&2; exit 1; }
for tool in mksquashfs unsquashfs wimlib-imagex partclone.ext4 casync borg restic xdelta3 mmdebstrap time; do
    command -v "$tool" >/dev/null || { echo "install $tool: cargo xtask setup bench" >&2; exit 1; }
done
sources() { for file in /etc/apt/sources.list.d/debian.sources; do awk -v RS= "$1" "$file" | grep -v '^#' | grep .; done; }
sources '!/-security/' > old.sources
sed 's/^#.*//' /etc/apt/sources.list.d/debian.sources > new.sources
. /etc/os-release
for version in old new; do
    [ -e "desk-$version.tar" ] || {
        echo "installing a desktop ($version), some minutes" >&2
        mmdebstrap --quiet --variant=standard --aptopt='Acquire::Check-Valid-Until "false"' \
            --aptopt='APT::Install-Recommends "0"' --dpkgopt=force-unsafe-io --format=tar \
            --include=linux-image-amd64,firefox-esr,libreoffice-writer,default-jre,systemd-sysv,locales \
            "$VERSION_CODENAME" "desk-$version.part" "$version.sources"
        mv "desk-$version.part" "desk-$version.tar"
    }
    # Devices are left out: a file tree of ours has none yet, and no peer is slowed by eight of them.
    [ -e "tree-$version" ] || {
        rm -rf part; mkdir part
        tar -C part --exclude='./dev/*' --exclude='./var/cache/apt/archives/*' -xf "desk-$version.tar"
        mv part "tree-$version"
    }
    [ -e "$version.img" ] || {
        rm -f part.img
        E2FSPROGS_FAKE_TIME=1700000000 mke2fs -q -t ext4 -d "tree-$version" -U 5f3a1d62-0000-4000-8000-000000000001 \
            -E hash_seed=5f3a1d62-0000-4000-8000-000000000002,nodiscard,lazy_itable_init=0 part.img 3G
        mv part.img "$version.img"
    }
done
# What the peers apply.
[ -e tree.squashfs ] || { rm -f part.sq; mksquashfs tree-new part.sq -comp zstd -Xcompression-level 3 -no-progress -quiet; mv part.sq tree.squashfs; }
[ -e tree.tar.zst ] || { tar -C tree-new -c . | zstd -q -3 -T0 -f -o part.zst; mv part.zst tree.tar.zst; }
[ -e tree.wim ] || { rm -f part.wim; wimlib-imagex capture tree-new part.wim --unix-data --compress=fast --quiet; mv part.wim tree.wim; }
[ -e image.pcl.zst ] || { partclone.ext4 -c -F -s new.img -o - -q -L /dev/null 2>/dev/null | zstd -q -3 -T0 -f -o part.pcl; mv part.pcl image.pcl.zst; }
# What we apply, made anew in each run: how it is cut may have changed.
rm -rf image.library tree.library
$OURS capture-image new.img image.library > image.manifest
$OURS build tree-new tree.library > tree.manifest
[ -e target ] || { fallocate -l 5G target; dd if=/dev/zero of=target bs=256K count=20480 conv=notrunc,fsync status=none; }
"##;
