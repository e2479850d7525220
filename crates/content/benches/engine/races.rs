//! Everything that is measured in seconds.

use crate::bytes;
use crate::data::Data;
use crate::race::Race;

type Make = fn(&Data) -> Race;

/// All races, in the order in which they matter.
pub(crate) const ALL: [(&str, Make); 9] = [
    ("apply-image", apply_image),
    ("build", build),
    ("build-next", build_next),
    ("stage", stage),
    ("stage-100", |data| {
        stage_throttled(data, "stage-100", 100.0)
    }),
    ("stage-400", |data| {
        stage_throttled(data, "stage-400", 400.0)
    }),
    ("converge-unchanged", unchanged),
    ("converge-changed", changed),
    ("apply-tree", apply_tree),
];

const APPLY_IMAGE: &str =
    "$OURS apply-image $W/image.library $W/image.manifest $LOOP && sync $LOOP";
const UNSQUASHFS: &str =
    "fresh && unsquashfs -q -n -f -d $T $W/tree.squashfs >/dev/null && sync -f $T";
const READ_ONCE: &str = "$OURS read-used $W/image.library $W/image.manifest $LOOP";

fn apply_image(data: &Data) -> Race {
    Race::new("apply-image", data)
        .before("target")
        .ours(APPLY_IMAGE)
        .peer("unsquashfs", "unsquashfs", 1.6, UNSQUASHFS)
        .peer("wimlib-imagex", "wimlib", 4.0, "fresh && wimlib-imagex apply $W/tree.wim 1 $T --unix-data --quiet && sync -f $T")
        .peer("partclone.restore", "partclone", 5.0, "zstd -qdc $W/image.pcl.zst | partclone.restore -s - -o $LOOP -F -q -L /dev/null >/dev/null 2>&1 && sync $LOOP")
        .memory_at_most(128.0)
}

fn build(data: &Data) -> Race {
    Race::new("build", data)
        .ours("$OURS build $NEW $W/out/library && sync -f $W/out")
        .peer("zstd", "tar-zstd", 1.15, "tar -C $NEW -c . | zstd -q -3 -T0 -o $W/out/tree.tar.zst && sync -f $W/out")
        .peer("mksquashfs", "mksquashfs", 1.25, "mksquashfs $NEW $W/out/tree.squashfs -comp zstd -Xcompression-level 3 -no-progress -quiet && sync -f $W/out")
        .peer("borg", "borg", 2.0, "export BORG_BASE_DIR=$W/borg; borg init -e none $W/out/repo && borg create -C zstd,3 $W/out/repo::new $NEW && sync -f $W/out")
        .peer("restic", "restic", 2.0, "export RESTIC_PASSWORD=x; restic -q --no-cache init -r $W/out/repo && restic -q --no-cache backup -r $W/out/repo $NEW && sync -f $W/out")
        .peer("rustic", "rustic", 2.0, "export RUSTIC_PASSWORD=x; rustic --no-cache -r $W/out/repo init >/dev/null && rustic --no-cache -r $W/out/repo backup $NEW >/dev/null && sync -f $W/out")
        .peer("casync", "casync", 3.0, "casync make --store=$W/out/s.castr $W/out/tree.caidx $NEW >/dev/null && sync -f $W/out")
        .memory_at_most(512.0)
        .at_most("size of mksquashfs", 1.0, |figures| {
            Some(figures.output_bytes("ours")? / figures.output_bytes("mksquashfs")?)
        })
}

/// The first build is one of `tree-new` into an empty library; the next has one byte in twenty changed.
fn build_next(data: &Data) -> Race {
    Race::new("build-next", data)
        .before("rm -rf $W/next.library; cp -r $W/tree.library $W/next.library")
        .ours("$OURS build $W/tree-next $W/next.library && sync -f $W/out")
        .peer(
            "bash",
            "first",
            8.0,
            "$OURS build $NEW $W/out/library && sync -f $W/out",
        )
}

/// From a medium as fast as the disk. The peer only copies the bundle, and we once do no more than that.
fn stage(data: &Data) -> Race {
    let bundle = bytes::length(&data.kept.join("stage.bundle"));
    let written = bundle + bytes::used(&data.kept.join("new.img"));
    Race::new("stage", data)
        .before("target")
        .ours("$OURS stage $W/stage.bundle $LOOP $W/out/library 0 && sync $LOOP && sync -f $W/out")
        .runner(
            "library alone",
            "$OURS stage-library $W/stage.bundle $W/out/library && sync -f $W/out",
        )
        .runner("cp", "cp $W/stage.bundle $W/out/ && sync -f $W/out")
        .at_least("cp, the library alone", 0.97, |figures| {
            Some(figures.seconds("cp")? / figures.seconds("library alone")?)
        })
        .at_least("cp, all bytes written", 0.8, move |figures| {
            Some(written / figures.seconds("ours")? / (bundle / figures.seconds("cp")?))
        })
        .memory_at_most(256.0)
}

/// From a medium that hands out `rate` MB/s.
fn stage_throttled(data: &Data, name: &'static str, rate: f64) -> Race {
    let bundle = bytes::length(&data.kept.join("stage.bundle"));
    Race::new(name, data)
        .before("target")
        .ours(&format!("$OURS stage $W/stage.bundle $LOOP $W/out/library {rate} && sync $LOOP && sync -f $W/out"))
        .at_least("rate of the medium", 0.95, move |figures| {
            Some(bundle / (rate * 1e6) / figures.seconds("ours")?)
        })
}

fn unchanged(data: &Data) -> Race {
    Race::new("converge-unchanged", data)
        .before("target; dd if=$IMAGE of=$LOOP bs=256K conv=fsync status=none")
        .ours(APPLY_IMAGE)
        .runner("read-once", READ_ONCE)
        .at_most("read-once", 1.15, |figures| {
            Some(figures.seconds("ours")? / figures.seconds("read-once")?)
        })
}

/// A disk with the old image becomes the new one. It may take as long as reading everything once, and of the time to
/// write everything the share that changed.
fn changed(data: &Data) -> Race {
    let share = bytes::changed_share(&data.kept.join("old.img"), &data.kept.join("new.img"));
    Race::new("converge-changed", data)
        .before("target; dd if=$W/old.img of=$LOOP bs=256K conv=fsync status=none")
        .ours(APPLY_IMAGE)
        .runner("read-once", READ_ONCE)
        .runner(
            "write-all",
            "$OURS write-used $W/image.library $W/image.manifest $LOOP && sync $LOOP",
        )
        .at_most(
            "read-once and the changed share of write-all",
            1.15,
            move |figures| {
                let least = figures.seconds("read-once")? + share * figures.seconds("write-all")?;
                Some(figures.seconds("ours")? / least)
            },
        )
}

fn apply_tree(data: &Data) -> Race {
    Race::new("apply-tree", data)
        .before("target")
        .ours("fresh && $OURS apply-tree $W/tree.library $W/tree.manifest $T && sync -f $T")
        .peer("unsquashfs", "unsquashfs", 1.25, UNSQUASHFS)
        .peer(
            "zstd",
            "tar-zstd",
            2.0,
            "fresh && zstd -qdc $W/tree.tar.zst | tar -x -C $T && sync -f $T",
        )
        .memory_at_most(128.0)
}
