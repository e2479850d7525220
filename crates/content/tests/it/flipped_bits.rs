//! Single bits that flip in a staged library and in a volume that was written at the factory.
//!
//! At school the volume is converged and a tree is applied, with the library as the nearest source: what is damaged must be
//! found before it is used. With a second source all ends well; without one it ends well or says which chunk it lacks.
//!
//! `FORESTAGE_FLIPPED_BITS=2500` flips so many bits at each of two places instead of 80; `FORESTAGE_ATTACK_SEED=7` chooses others,
//! and a failure names its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use camino::{Utf8Path, Utf8PathBuf};
use content::{
    ChunkSource, ContentError, Library, Manifest, NoMeter, converge_image, converge_tree,
};
use testkit::chance::{Chance, variable};
use wire::digest::Digest;

use crate::support::{Network, Temp, capture_image, capture_tree, listing, noise, packs};

const IMAGE_BYTES: u64 = 1 << 20;

/// A device as the factory left it, and the server it finds at school.
struct School {
    temp: Temp,
    server: Library,
    manifests: [Digest; 2],
    /// Of the library, with their bytes.
    files: Vec<(Utf8PathBuf, Vec<u8>)>,
    image: Vec<u8>,
}

impl School {
    fn new() -> Self {
        let temp = Temp::new();
        let mut image = noise(1, 700_000);
        image.resize(usize::try_from(IMAGE_BYTES).unwrap(), 0);
        fs::write(temp.join("image"), &image).unwrap();
        fs::create_dir(temp.join("tree")).unwrap();
        fs::write(temp.join("tree/blåbær"), noise(2, 400_000)).unwrap();
        fs::write(temp.join("tree/tekst"), "mange ord ".repeat(20_000)).unwrap();
        let fill = |name: &str| {
            let library = temp.library(name);
            let manifests = [
                capture_image(&temp.join("image"), &library),
                capture_tree(&temp.join("tree"), &library),
            ];
            let digests =
                manifests.map(|manifest| library.put_manifest(&manifest.encode()).unwrap());
            (library, digests)
        };
        let (server, manifests) = fill("server");
        let (_, staged) = fill("device");
        assert_eq!(manifests, staged);
        let library = temp.join("device");
        let mut paths = packs(&library);
        paths.extend(manifests.map(|digest| library.join("manifests").join(digest.to_string())));
        let files = paths
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        Self {
            temp,
            server,
            manifests,
            files,
            image,
        }
    }

    /// The device as it was staged.
    fn restore(&self) {
        let library = self.temp.join("device");
        fs::remove_dir_all(&library).unwrap();
        for (path, bytes) in &self.files {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        fs::write(self.temp.join("volume"), &self.image).unwrap();
        let _none = fs::remove_dir_all(self.temp.join("applied"));
        fs::create_dir(self.temp.join("applied")).unwrap();
    }

    /// Flips a bit of a file; where all files lie one behind the other.
    fn flip(&self, chance: &mut Chance) -> String {
        let total = self.files.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut at = chance.place(total);
        let bit = chance.below(8);
        for (path, bytes) in &self.files {
            if at < bytes.len() {
                flip_in(path, bytes, at, bit);
                let name = path.strip_prefix(self.temp.path()).unwrap();
                return format!("bit {bit} of byte {at} of {name}");
            }
            at -= bytes.len();
        }
        unreachable!("a place in one of the files")
    }

    /// What the agent does: the manifest from the library or the server; the volume or the tree from the library, then the server.
    /// How many chunks and manifests the server was asked for.
    fn deploy(&self, has_server: bool) -> Result<usize, ContentError> {
        let library = Library::open(&self.temp.join("device"))?;
        let network = Network::new(&self.server);
        let sources: &[&dyn ChunkSource] = if has_server {
            &[&library, &network]
        } else {
            &[&library]
        };
        let mut fetched = 0;
        for digest in &self.manifests {
            let bytes = match library.manifest_bytes(digest)? {
                Some(bytes) => bytes,
                None if has_server => {
                    fetched += 1;
                    let bytes = self.server.manifest_bytes(digest)?.unwrap();
                    library.put_manifest(&bytes)?;
                    bytes
                }
                None => return Err(ContentError::MissingManifest { digest: *digest }),
            };
            let manifest = Manifest::decode(&bytes)?;
            if manifest.image_bytes().is_some() {
                let volume = File::options()
                    .read(true)
                    .write(true)
                    .open(self.temp.join("volume"))
                    .unwrap();
                converge_image(&manifest, &volume, sources, &NoMeter)?;
            } else {
                converge_tree(&manifest, &self.temp.join("applied"), sources, &NoMeter)?;
            }
        }
        Ok(fetched + network.asked.get())
    }

    fn assert_right(&self, place: &str) {
        let volume = fs::read(self.temp.join("volume")).unwrap();
        assert!(volume == self.image, "{place}: the volume");
        let contents = |name: &str| {
            let listed = listing(Path::new(self.temp.join(name).as_str()));
            // The mode and the time of the top folder aren't in it.
            listed.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(contents("applied"), contents("tree"), "{place}");
    }

    /// Nothing but what is right, or what was there before.
    fn assert_nothing_wrong(&self, before: &[u8], place: &str) {
        let volume = fs::read(self.temp.join("volume")).unwrap();
        for (number, block) in volume.chunks(4096).enumerate() {
            let of = |whole: &[u8]| whole[number * 4096..][..block.len()] == *block;
            assert!(of(&self.image) || of(before), "{place}: block {number}");
        }
        for name in ["blåbær", "tekst"] {
            if let Ok(applied) = fs::read(self.temp.join("applied").join(name)) {
                let right = fs::read(self.temp.join("tree").join(name)).unwrap();
                assert!(applied == right, "{place}: {name}");
            }
        }
    }
}

fn flip_in(path: &Utf8Path, bytes: &[u8], at: usize, bit: u64) {
    let mut flipped = bytes.to_vec();
    flipped[at] ^= 1 << bit;
    fs::write(path, flipped).unwrap();
}

fn wanted() -> u64 {
    variable("FORESTAGE_FLIPPED_BITS").unwrap_or(80)
}

fn seed() -> u64 {
    variable("FORESTAGE_ATTACK_SEED").unwrap_or(1)
}

/// On every second device the volume is blank, so that everything is used that the library has of it.
#[test]
fn a_flipped_bit_of_the_library_is_found_before_use_and_fetched_again() {
    let school = School::new();
    let mut chance = Chance::new(seed());
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for number in 0..wanted() {
        school.restore();
        let is_blank = number % 2 == 0;
        let before = if is_blank {
            vec![0; school.image.len()]
        } else {
            school.image.clone()
        };
        let begin = || fs::write(school.temp.join("volume"), &before).unwrap();
        begin();
        let flipped = school.flip(&mut chance);
        let damaged: Vec<_> = school
            .files
            .iter()
            .map(|(path, _)| (path, fs::read(path).unwrap()))
            .collect();
        let place = format!("{flipped}, number {number}, seed {}", seed());
        let offline = school.deploy(false);
        school.assert_nothing_wrong(&before, &place);
        match &offline {
            Ok(_) => school.assert_right(&place),
            Err(ContentError::MissingChunk { .. } | ContentError::MissingManifest { .. }) => {}
            Err(error) => panic!("{place}: {error:?}"),
        }
        // The same device once more, at a school with a network.
        school.restore();
        begin();
        for (path, bytes) in damaged {
            fs::write(path, bytes).unwrap();
        }
        let fetched = school
            .deploy(true)
            .unwrap_or_else(|error| panic!("{place}: {error:?}"));
        school.assert_right(&place);
        assert_eq!(offline.is_err(), fetched > 0, "{place}");
        let kind = match (&offline, is_blank) {
            (Err(_), _) => {
                "found and fetched from the server; without one, it said what is missing"
            }
            (Ok(_), true) => {
                "used, and the content was right: an index made again, or a bit that means nothing to zstd"
            }
            (Ok(_), false) => "not used, or as before",
        };
        *counts.entry(kind).or_default() += 1;
    }
    eprintln!("{} flips in a staged library: {counts:?}", wanted());
}

#[test]
fn a_flipped_bit_of_the_volume_is_written_over_from_the_library() {
    let school = School::new();
    let mut chance = Chance::new(seed());
    for number in 0..wanted() {
        school.restore();
        let at = chance.place(school.image.len());
        flip_in(
            &school.temp.join("volume"),
            &school.image,
            at,
            chance.below(8),
        );
        let place = format!("byte {at}, number {number}, seed {}", seed());
        let fetched = school.deploy(false);
        assert_eq!(fetched.unwrap(), 0, "{place}");
        school.assert_right(&place);
    }
    eprintln!("{} flips in a volume: all written over", wanted());
}
