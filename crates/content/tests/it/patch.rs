//! From one version to the next by a patch, with everything that may go wrong on the way.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};

use camino::Utf8Path;
use content::{
    ChunkSource, Keeping, Library, Manifest, NoMeter, Patch, PatchBytes as _, PatchSource,
    converge_library, converge_tree,
};
use proptest::prelude::*;
use wire::digest::Digest;
use wire::event::ContentBytes;

use crate::support::{Network, Temp, capture_image, capture_tree, listing, noise};

/// A server with two versions and the patch between them, and a device that has the first.
struct Update {
    temp: Temp,
    server: Library,
    device: Library,
    new: Manifest,
    from: Digest,
    to: Digest,
}

impl Update {
    fn new(temp: Temp, capture: fn(&Utf8Path, &Library) -> Manifest) -> Self {
        let (server, device) = (temp.library("server"), temp.library("device"));
        let (old, new) = (
            capture(&temp.join("old"), &server),
            capture(&temp.join("new"), &server),
        );
        let from = server.put_manifest(&old.encode()).unwrap();
        let to = server.put_manifest(&new.encode()).unwrap();
        device.put_manifest(&old.encode()).unwrap();
        converge_library(&[old], &device, &[&server], &NoMeter).unwrap();
        server.make_patch(&from, &to, &NoMeter).unwrap();
        Self {
            temp,
            server,
            device,
            new,
            from,
            to,
        }
    }

    fn file(&self) -> File {
        self.server.patch(&self.from, &self.to).unwrap().unwrap()
    }

    fn front(&self) -> Patch {
        let known = self.device.manifest_bytes(&self.from).unwrap().unwrap();
        let patch = Patch::read(&mut self.file(), &known).unwrap();
        assert_eq!(patch.manifest(), self.new.encode());
        patch
    }

    /// Brings the device up to date; also how many chunks were fetched as they are.
    fn run(&self) -> (ContentBytes, usize) {
        let (patch, file, network) = (self.front(), self.file(), Network::new(&self.server));
        let patched = PatchSource::new(&patch, &file, &self.device);
        let sources: [&dyn ChunkSource; 2] = [&patched, &network];
        let new = std::slice::from_ref(&self.new);
        let bytes = converge_library(new, &self.device, &sources, &NoMeter).unwrap();
        assert_eq!(self.device.missing(&self.new), []);
        assert_eq!(self.device.verify(&NoMeter).unwrap().damaged, []);
        (bytes, network.asked.get())
    }
}

/// Text whose numbers are other ones in each version, so that no chunk stays.
fn text(version: u32, lines: u32) -> Vec<u8> {
    let line = |number: u32| {
        let noise = Digest::of(&number.to_le_bytes());
        let changed = if number.is_multiple_of(50) {
            version
        } else {
            0
        };
        format!("{number} {changed} {noise}\n")
    };
    (0..lines).map(line).collect::<String>().into_bytes()
}

/// A tree whose large file differs a little everywhere, whose noise is new, and one of whose files moved.
fn trees() -> Temp {
    let temp = Temp::new();
    for (version, moved) in [("old", "before.bin"), ("new", "after.bin")] {
        let number = u32::from(version == "new");
        fs::create_dir(temp.join(version)).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(temp.join(version).join(name), bytes);
        write("blåbær.txt", &text(number, 100_000)).unwrap();
        write("noise.bin", &noise(number.into(), 300_000)).unwrap();
        write(moved, &noise(7, 700_000)).unwrap();
    }
    temp
}

#[test]
fn an_update_costs_what_changed() {
    let update = Update::new(trees(), capture_tree);
    let lacking: u64 = update
        .device
        .missing(&update.new)
        .iter()
        .map(|chunk| update.server.frame_bytes(&chunk.digest).unwrap())
        .sum();
    let stored = update.server.patches().unwrap()[0];
    assert_eq!((stored.from, stored.to), (update.from, update.to));
    assert_eq!(stored.bytes, update.file().metadata().unwrap().len());
    let (bytes, asked) = update.run();
    // Noise can't be patched: only that comes as it is.
    assert!(asked > 0 && bytes.network_packed > 300_000, "{bytes:?}");
    assert!(
        (bytes.network_packed - 300_000) * 10 < lacking,
        "{bytes:?} of {lacking}"
    );
    let folder = update.temp.join("applied");
    fs::create_dir(&folder).unwrap();
    converge_tree(&update.new, &folder, &[&update.device], &NoMeter).unwrap();
    assert_eq!(
        listing(folder.as_std_path()),
        listing(update.temp.join("new").as_std_path())
    );
}

#[test]
fn what_is_foretold_is_what_is_fetched() {
    let update = Update::new(trees(), capture_tree);
    let patch = update.front();
    let mut open = update.device.missing(&update.new);
    let mut foretold = 0;
    for (bytes, makes) in patch.worth(|digest| update.device.contains(digest)) {
        foretold += bytes;
        let makes: Vec<Digest> = makes.collect();
        open.retain(|chunk| !makes.contains(&chunk.digest));
    }
    for chunk in &open {
        foretold += update.server.frame_bytes(&chunk.digest).unwrap();
    }
    assert_eq!(update.run().0.network_packed, foretold);
}

#[test]
fn without_a_base_chunks_come_as_they_are() {
    let update = Update::new(trees(), capture_tree);
    let nothing = update.temp.library("nothing");
    let (patch, file, network) = (update.front(), update.file(), Network::new(&update.server));
    let patched = PatchSource::new(&patch, &file, &nothing);
    let sources: [&dyn ChunkSource; 2] = [&patched, &network];
    let new = std::slice::from_ref(&update.new);
    let bytes = converge_library(new, &nothing, &sources, &NoMeter).unwrap();
    assert_eq!(network.asked.get(), update.new.chunks().len());
    assert_eq!(bytes.network, update.new.content_bytes());
    assert_eq!(nothing.missing(&update.new), []);
}

#[test]
fn a_damaged_patch_is_found_and_passed_over() {
    let update = Update::new(trees(), capture_tree);
    let front = update.server.patches().unwrap()[0].front_bytes;
    let mut bytes = Vec::new();
    update.file().read_to_end(&mut bytes).unwrap();
    let known = update.device.manifest_bytes(&update.from).unwrap().unwrap();
    for at in (0..usize::try_from(front).unwrap()).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        // Never another manifest than the one it says; a place in the table may be another one.
        if let Ok(patch) = Patch::read(&mut damaged.as_slice(), &known) {
            assert_eq!(Digest::of(patch.manifest()), update.to);
        }
        assert!(Patch::read(&mut &bytes[..at], &known).is_err());
    }
    assert!(Patch::read(&mut bytes.as_slice(), &update.new.encode()).is_err());
    // All of its parts are zeros now.
    let path = update.temp.join("damaged");
    fs::write(&path, &bytes[..usize::try_from(front).unwrap()]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    let (patch, network) = (update.front(), Network::new(&update.server));
    let patched = PatchSource::new(&patch, &file, &update.device);
    let sources: [&dyn ChunkSource; 2] = [&patched, &network];
    let new = std::slice::from_ref(&update.new);
    converge_library(new, &update.device, &sources, &NoMeter).unwrap();
    assert_eq!(update.device.missing(&update.new), []);
    assert!(network.asked.get() > 3);
}

#[test]
fn a_connection_that_breaks_costs_no_chunk() {
    let update = Update::new(trees(), capture_tree);
    let cut = update.temp.join("cut");
    let mut bytes = Vec::new();
    update.file().read_to_end(&mut bytes).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 10]).unwrap();
    let (patch, file, network) = (
        update.front(),
        File::open(&cut).unwrap(),
        Network::new(&update.server),
    );
    let patched = PatchSource::new(&patch, &file, &update.device);
    let kept = Keeping::new(&patched, &update.device).unwrap();
    let sources: [&dyn ChunkSource; 2] = [&kept, &network];
    let folder = update.temp.join("applied");
    fs::create_dir(&folder).unwrap();
    let all: Vec<&dyn ChunkSource> = [&update.device as &dyn ChunkSource]
        .into_iter()
        .chain(sources)
        .collect();
    converge_tree(&update.new, &folder, &all, &NoMeter).unwrap();
    kept.finish().unwrap();
    let missing = update.device.missing(&update.new).len();
    assert_eq!(missing, network.asked.get(), "what was patched is kept");
    assert_eq!(
        listing(folder.as_std_path()),
        listing(update.temp.join("new").as_std_path())
    );
}

#[test]
fn images_whose_files_moved_are_patched() {
    let temp = Temp::new();
    let block = |seed| noise(seed, 40 << 10);
    let image = |seeds: &[u64]| {
        seeds
            .iter()
            .flat_map(|seed| block(*seed))
            .collect::<Vec<_>>()
    };
    let old: Vec<u64> = (0..60).collect();
    let new: Vec<u64> = old.iter().map(|seed| seed * 7 % 60).chain([99]).collect();
    fs::write(temp.join("old"), image(&old)).unwrap();
    fs::write(temp.join("new"), image(&new)).unwrap();
    let update = Update::new(temp, capture_image);
    let (bytes, _) = update.run();
    assert!(bytes.network > 1 << 20, "{bytes:?}");
    assert!(bytes.network_packed < 80 << 10, "{bytes:?}");
}

#[test]
fn collecting_takes_patches_that_lead_nowhere() {
    let update = Update::new(trees(), capture_tree);
    let settled = std::time::SystemTime::now();
    let both = [update.from, update.to].into();
    assert_eq!(update.server.plan_gc(&both, settled).unwrap().patches, []);
    let plan = update.server.plan_gc(&[update.to].into(), settled).unwrap();
    assert_eq!(plan.patches.len(), 1);
    update.server.gc(&plan, &NoMeter).unwrap();
    assert_eq!(update.server.patches().unwrap(), []);
    assert!(
        update
            .server
            .patch(&update.from, &update.to)
            .unwrap()
            .is_none()
    );
    assert_eq!(update.server.missing(&update.new), []);
}

#[test]
fn parts_are_opened_anywhere() {
    let update = Update::new(trees(), capture_tree);
    let mut file = update.file();
    let mut there = Vec::new();
    file.open(5, 20).unwrap().read_to_end(&mut there).unwrap();
    let mut expected = vec![0; 20];
    file.seek(SeekFrom::Start(5)).unwrap();
    file.read_exact(&mut expected).unwrap();
    assert_eq!(there, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Whatever the two versions are, and whatever the device lost of the first: it ends with the second.
    #[test]
    fn any_version_leads_to_any_other(
        old in proptest::collection::vec((0..6_u8, 0..40_u64, 0..400_000_usize), 0..6),
        new in proptest::collection::vec((0..6_u8, 0..40_u64, 0..400_000_usize), 0..6),
        lost in any::<bool>(),
    ) {
        let temp = Temp::new();
        for (version, files) in [("old", &old), ("new", &new)] {
            fs::create_dir(temp.join(version)).unwrap();
            for (name, seed, bytes) in files {
                let mut content = noise(*seed / 4, *bytes);
                for at in (0..content.len()).step_by(9_000) {
                    content[at] = u8::try_from(*seed).unwrap();
                }
                fs::write(temp.join(version).join(format!("{name}")), content).unwrap();
            }
        }
        let mut update = Update::new(temp, capture_tree);
        if lost {
            fs::remove_dir_all(update.temp.join("device/packs")).unwrap();
            update.device = update.temp.library("device");
        }
        update.run();
    }
}
