//! The content engine against its peers, on the same data in the same run: `cargo xtask bench --only engine`.
//!
//! Needs root (loop devices), the peers (`cargo xtask setup bench`) and about 25 GB of disk. A Debian desktop in two
//! versions is installed once and kept. Each round runs us and every peer in turn, with cold caches and with the sync
//! inside the measured part; what is printed are medians, one line of JSON per figure. Nothing here can fail on being
//! slow.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a benchmark prints what it measured, and stops if its own data are wrong"
)]

mod bytes;
mod data;
mod ours;
mod race;

use race::Race;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Measured like every peer: as a process of its own.
    if arguments.first().is_some_and(|first| first == "ours") {
        return ours::run(&arguments[1..]);
    }
    let only = arguments
        .iter()
        .position(|argument| argument == "--only")
        .and_then(|at| arguments.get(at + 1))
        .cloned();
    let data = data::prepare();
    let rounds = std::env::var("FORESTAGE_BENCH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3);
    for race in races(&data) {
        if only.as_deref().is_none_or(|only| only == race.name) {
            println!("{}", race.run(rounds));
        }
    }
    if only.as_deref().is_none_or(|only| only == "update-image") {
        println!("{}", bytes::update_image(&data));
    }
}

/// Everything that is measured in seconds. `$OURS` is this program, `$NEW` the desktop's tree, `$IMAGE` it as a
/// filesystem image, `$W` a work folder, `$LOOP` a loop device on a file that was written once, `$T` a fresh ext4 on it.
fn races(data: &data::Data) -> Vec<Race> {
    let fresh = "fresh";
    vec![
        Race::new("build", data)
            .before("rm -rf $W/out; mkdir $W/out")
            .ours("$OURS build $NEW $W/out/library && sync -f $W/out")
            .peer("tar-zstd", 1.15, "tar -C $NEW -c . | zstd -q -3 -T0 -o $W/out/tree.tar.zst && sync -f $W/out")
            .peer("mksquashfs", 1.25, "mksquashfs $NEW $W/out/tree.squashfs -comp zstd -Xcompression-level 3 -no-progress -quiet && sync -f $W/out")
            .peer("borg", 2.0, "export BORG_BASE_DIR=$W/out/b; borg init -e none $W/out/repo && borg create -C zstd,3 $W/out/repo::new $NEW && sync -f $W/out")
            .peer("restic", 2.0, "export RESTIC_PASSWORD=x; restic -q --no-cache init -r $W/out/repo && restic -q --no-cache backup -r $W/out/repo $NEW && sync -f $W/out")
            .peer("casync", 3.0, "casync make --store=$W/out/s.castr $W/out/tree.caidx $NEW >/dev/null && sync -f $W/out"),
        Race::new("apply-image", data)
            .before("target; cold $W/image.library/packs/* $W/tree.squashfs $W/tree.wim $W/image.pcl.zst")
            .ours("$OURS apply-image $W/image.library $W/image.manifest $LOOP && sync $LOOP")
            .peer("unsquashfs", 1.6, &format!("{fresh} && unsquashfs -q -n -f -d $T $W/tree.squashfs >/dev/null && sync -f $T"))
            .peer("wimlib", 4.0, &format!("{fresh} && wimlib-imagex apply $W/tree.wim 1 $T --unix-data --quiet && sync -f $T"))
            .peer("partclone", 5.0, "zstd -qdc $W/image.pcl.zst | partclone.restore -s - -o $LOOP -F -q -L /dev/null >/dev/null 2>&1 && sync $LOOP"),
        Race::new("apply-tree", data)
            .before("target; cold $W/tree.library/packs/* $W/tree.squashfs $W/tree.tar.zst")
            .ours(&format!("{fresh} && $OURS apply-tree $W/tree.library $W/tree.manifest $T && sync -f $T"))
            .peer("unsquashfs", 1.25, &format!("{fresh} && unsquashfs -q -n -f -d $T $W/tree.squashfs >/dev/null && sync -f $T"))
            .peer("tar-zstd", 2.0, &format!("{fresh} && zstd -qdc $W/tree.tar.zst | tar -x -C $T && sync -f $T")),
        Race::new("converge-unchanged", data)
            .before("target; dd if=$IMAGE of=$LOOP bs=256K conv=fsync status=none; cold $LOOP $W/target $W/image.library/packs/*")
            .ours("$OURS apply-image $W/image.library $W/image.manifest $LOOP && sync $LOOP")
            .peer("read-once", 1.0 / 1.15, "$OURS read-used $W/image.library $W/image.manifest $LOOP"),
        Race::new("converge-changed", data)
            .before("target; dd if=$W/old.img of=$LOOP bs=256K conv=fsync status=none; cold $LOOP $W/target $W/image.library/packs/*")
            .ours("$OURS apply-image $W/image.library $W/image.manifest $LOOP && sync $LOOP"),
        Race::new("stage", data)
            .before("rm -rf $W/out; mkdir $W/out; cold $W/image.library/packs/*")
            .ours("$OURS copy-library $W/image.library $W/image.manifest $W/out/library && sync -f $W/out")
            .peer("cp", 0.97, "cp -r $W/image.library $W/out/ && sync -f $W/out"),
    ]
}
