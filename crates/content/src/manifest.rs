//! Manifests: what some content looks like. See `docs/formats/manifest.md`.
//!
//! A [`Manifest`] that exists keeps every rule of the format; there is one encoding of it. No I/O here.

pub(crate) mod bytes;
mod image;
mod tree;

use wire::digest::Digest;

use self::bytes::{Reader, bad, put_count};
pub use self::image::{BLOCK_BYTES, Extent, IMAGE_BYTES_MAX, Image};
pub use self::tree::{
    DEPTH_MAX, Device, ENTRIES_MAX, Entry, EntryKind, Hole, LINK_BYTES_MAX, Metadata,
    NAME_BYTES_MAX, PATH_BYTES_MAX, Tree, TreePath,
};
pub use crate::attributes::{ATTRIBUTE_BYTES_MAX, ATTRIBUTES_MAX, Attribute};
use crate::error::ContentError;
use crate::frame::RAW_BYTES_MAX;

/// The longest manifest: seven million chunks, or two million files.
pub const MANIFEST_BYTES_MAX: usize = 256 << 20;

const MAGIC: &[u8; 8] = b"FSTGMANI";
/// Folders, files and symbolic links; images.
const VERSION_PLAIN: u16 = 1;
/// Trees in which there is anything else.
const VERSION_RICH: u16 = 2;
const KIND_TREE: u8 = 1;
const KIND_IMAGE: u8 = 2;
const CHUNK_REF_BYTES: usize = Digest::BYTES + 4;

/// A chunk in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRef {
    /// Its digest.
    pub digest: Digest,
    /// Its length before compression.
    pub bytes: u32,
}

impl ChunkRef {
    /// The digest says what the bytes are, and a manifest that tells another length is not believed.
    pub(crate) fn check_length(&self, raw: &[u8]) -> Result<(), ContentError> {
        if raw.len() == self.bytes as usize {
            return Ok(());
        }
        Err(ContentError::DamagedChunk {
            digest: self.digest,
            rule: "its length is not the one in the manifest",
        })
    }
}

/// What some content looks like: a stream of chunks, and where the stream goes. See `docs/formats/manifest.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    chunks: Vec<ChunkRef>,
    shape: Shape,
}

/// Where the stream of chunks goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Into the files of a tree.
    Tree(Tree),
    /// Onto a volume.
    Image(Image),
}

impl Manifest {
    /// Puts a manifest together.
    ///
    /// # Errors
    /// If the chunks don't sum up to the content, or there is too much of it.
    pub fn new(chunks: Vec<ChunkRef>, shape: Shape) -> Result<Self, ContentError> {
        let manifest = Self::checked(chunks, shape)?;
        if manifest.encode().len() > MANIFEST_BYTES_MAX {
            return Err(ContentError::TooMuch {
                what: "bytes in a manifest",
                limit: MANIFEST_BYTES_MAX as u64,
            });
        }
        Ok(manifest)
    }

    fn checked(chunks: Vec<ChunkRef>, shape: Shape) -> Result<Self, ContentError> {
        let mut sum = 0;
        for chunk in &chunks {
            if chunk.bytes == 0 || chunk.bytes as usize > RAW_BYTES_MAX {
                return Err(bad("the length of a chunk is out of bounds"));
            }
            sum += u64::from(chunk.bytes);
        }
        let manifest = Self { chunks, shape };
        if sum != manifest.content_bytes() {
            return Err(bad("its chunks do not sum up to its content"));
        }
        Ok(manifest)
    }

    /// Parses and checks; never trusts a length.
    ///
    /// # Errors
    /// Says which rule the bytes break.
    pub fn decode(bytes: &[u8]) -> Result<Self, ContentError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ContentError::TooMuch {
                what: "bytes in a manifest",
                limit: MANIFEST_BYTES_MAX as u64,
            });
        }
        let mut from = Reader::new(bytes);
        if &from.array()? != MAGIC {
            return Err(bad("it does not begin like a manifest"));
        }
        let version = from.u16()?;
        match version {
            VERSION_PLAIN | VERSION_RICH => {}
            0 => return Err(bad("its version is 0")),
            version => {
                return Err(ContentError::Newer {
                    what: "manifest",
                    version,
                    newest: VERSION_RICH,
                });
            }
        }
        let kind = from.byte()?;
        if from.byte()? != 0 {
            return Err(bad("a reserved byte is not zero"));
        }
        let count = from.count(CHUNK_REF_BYTES)?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            chunks.push(ChunkRef {
                digest: Digest::from_bytes(from.array()?),
                bytes: from.u32()?,
            });
        }
        let shape = match kind {
            KIND_TREE => Shape::Tree(Tree::decode(&mut from, version)?),
            KIND_IMAGE if version == VERSION_PLAIN => Shape::Image(Image::decode(&mut from)?),
            KIND_IMAGE => return Err(bad("its version is not the lowest that can tell it")),
            _ => return Err(bad("its kind is unknown")),
        };
        from.end()?;
        Self::checked(chunks, shape)
    }

    /// The bytes; their digest is the manifest's name.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.chunks.len() * CHUNK_REF_BYTES);
        bytes.extend_from_slice(MAGIC);
        let version = match &self.shape {
            Shape::Tree(tree) => tree.version(),
            Shape::Image(_) => VERSION_PLAIN,
        };
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.push(match &self.shape {
            Shape::Tree(_) => KIND_TREE,
            Shape::Image(_) => KIND_IMAGE,
        });
        bytes.push(0);
        put_count(&mut bytes, self.chunks.len());
        for chunk in &self.chunks {
            bytes.extend_from_slice(chunk.digest.as_bytes());
            bytes.extend_from_slice(&chunk.bytes.to_le_bytes());
        }
        match &self.shape {
            Shape::Tree(tree) => tree.encode(&mut bytes),
            Shape::Image(image) => image.encode(&mut bytes),
        }
        bytes
    }

    /// The chunks, in apply order.
    #[must_use]
    pub fn chunks(&self) -> &[ChunkRef] {
        &self.chunks
    }

    /// Where the chunks go.
    #[must_use]
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The bytes of content, without holes.
    #[must_use]
    pub fn content_bytes(&self) -> u64 {
        match &self.shape {
            Shape::Tree(tree) => tree.content_bytes(),
            Shape::Image(image) => image.content_bytes(),
        }
    }

    /// For an image: the size of the filesystem in bytes, holes included; `None` for a tree.
    #[must_use]
    pub fn image_bytes(&self) -> Option<u64> {
        self.image().ok().map(Image::image_bytes)
    }

    /// For a tree: the same with everything owned by `owner` and `group`. An image stays as it is.
    ///
    /// A tree captured on someone's desk belongs to that person's user id; laid over an OS, it should be root's.
    #[must_use]
    pub fn owned_by(self, owner: u32, group: u32) -> Self {
        match self.shape {
            Shape::Tree(tree) => Self {
                shape: Shape::Tree(tree.owned_by(owner, group)),
                ..self
            },
            Shape::Image(_) => self,
        }
    }

    pub(crate) fn image(&self) -> Result<&Image, ContentError> {
        match &self.shape {
            Shape::Image(image) => Ok(image),
            Shape::Tree(_) => Err(ContentError::WrongKind {
                is: "a tree of files",
                needed: "a filesystem image",
            }),
        }
    }

    pub(crate) fn tree(&self) -> Result<&Tree, ContentError> {
        match &self.shape {
            Shape::Tree(tree) => Ok(tree),
            Shape::Image(_) => Err(ContentError::WrongKind {
                is: "a filesystem image",
                needed: "a tree of files",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wire::digest::Digest;

    use super::{
        Attribute, ChunkRef, Device, Entry, EntryKind, Extent, Hole, Image, Manifest, Metadata,
        Shape, Tree, TreePath,
    };

    fn chunks_of(mut bytes: u64) -> Vec<ChunkRef> {
        let mut chunks = Vec::new();
        while bytes > 0 {
            let part = u32::try_from(bytes.min(300_000)).unwrap();
            chunks.push(ChunkRef {
                digest: Digest::of(&bytes.to_le_bytes()),
                bytes: part,
            });
            bytes -= u64::from(part);
        }
        chunks
    }

    fn entry(path: &[u8], kind: EntryKind) -> Entry {
        let metadata = Metadata {
            mode: 0o755,
            owner: 0,
            group: 1000,
            mtime_seconds: -1,
            mtime_nanoseconds: 999_999_999,
        };
        Entry {
            path: TreePath::new(path.to_vec()).unwrap(),
            metadata,
            kind,
            attributes: Vec::new(),
        }
    }

    fn file(bytes: u64) -> EntryKind {
        sparse(bytes, &[])
    }

    fn sparse(bytes: u64, holes: &[(u64, u64)]) -> EntryKind {
        let hole = |(offset, bytes): &(u64, u64)| Hole {
            offset: *offset,
            bytes: *bytes,
        };
        EntryKind::File {
            bytes,
            digest: Digest::of(b""),
            holes: holes.iter().map(hole).collect(),
        }
    }

    fn attribute(name: &[u8], value: &[u8]) -> Attribute {
        Attribute {
            name: name.to_vec(),
            value: value.to_vec(),
        }
    }

    fn tree(entries: Vec<Entry>) -> Option<Manifest> {
        let tree = Tree::new(entries).ok()?;
        Some(Manifest::new(chunks_of(tree.content_bytes()), Shape::Tree(tree)).unwrap())
    }

    fn any_tree() -> impl Strategy<Value = Manifest> {
        let names = proptest::collection::btree_set("[a-zæøå .-]{1,6}", 0..8);
        (
            names,
            proptest::collection::vec(0..700_000_u64, 8),
            any::<u8>(),
        )
            .prop_map(|(names, sizes, kinds)| {
                let mut entries = Vec::new();
                for (index, (name, size)) in names
                    .iter()
                    .filter(|name| *name != "." && *name != "..")
                    .zip(sizes)
                    .enumerate()
                {
                    match (kinds >> index) & 1 {
                        0 if size % 3 > 0 => entries.push(entry(name.as_bytes(), file(size))),
                        0 => rich(name, size, &mut entries),
                        _ => {
                            entries.push(entry(name.as_bytes(), EntryKind::Folder));
                            let target = b"../utenfor/\xff".to_vec();
                            entries.push(entry(
                                format!("{name}/lenke").as_bytes(),
                                EntryKind::Link { target },
                            ));
                        }
                    }
                }
                entries.sort_by(|left, right| left.path.cmp(&right.path));
                tree(entries).unwrap()
            })
    }

    /// Something that only version 2 can tell.
    fn rich(name: &str, size: u64, entries: &mut Vec<Entry>) {
        let device = Device {
            is_block: size.is_multiple_of(2),
            major: 8,
            minor: 1,
        };
        let kinds = [
            EntryKind::Fifo,
            EntryKind::Socket,
            EntryKind::Device(device),
            sparse(size + 4096, &[(0, 4096)]),
            EntryKind::Folder,
        ];
        let mut one = entry(
            name.as_bytes(),
            kinds[usize::try_from(size % 5).unwrap()].clone(),
        );
        if size % 7 < 4 {
            one.attributes = vec![
                attribute(b"security.capability", b"\0"),
                attribute(b"user.\xe6", b""),
            ];
        }
        let is_folder = one.kind == EntryKind::Folder;
        entries.push(one);
        if is_folder {
            entries.push(entry(format!("{name}/a").as_bytes(), file(size)));
        }
    }

    fn any_image() -> impl Strategy<Value = Manifest> {
        proptest::collection::vec((1..5_u64, 1..500_u64), 0..6).prop_map(|parts| {
            let mut at = 0;
            let mut extents = Vec::new();
            for (gap, length) in parts {
                extents.push(Extent {
                    offset: (at + gap) * 4096,
                    bytes: length * 4096,
                });
                at += gap + length;
            }
            let image = Image::new((at + 3) * 4096, extents).unwrap();
            Manifest::new(chunks_of(image.content_bytes()), Shape::Image(image)).unwrap()
        })
    }

    fn any_manifest() -> impl Strategy<Value = Manifest> {
        prop_oneof![any_tree(), any_image()]
    }

    #[test]
    fn contradicting_trees_are_refused() {
        let folder = || EntryKind::Folder;
        assert!(
            tree(vec![
                entry(b"a", folder()),
                entry(b"a/b", file(1)),
                entry(b"a.b", file(1))
            ])
            .is_some()
        );
        let cases = [
            vec![entry(b"a", file(1)), entry(b"a", file(1))],
            vec![entry(b"b", file(1)), entry(b"a", file(1))],
            vec![entry(b"a/b", file(1))],
            vec![entry(b"a", file(1)), entry(b"a/b", file(1))],
            vec![
                entry(
                    b"a",
                    EntryKind::Link {
                        target: b"/etc".to_vec(),
                    },
                ),
                entry(b"a/b", file(1)),
            ],
            vec![
                entry(b"a", folder()),
                entry(b"a.b", file(1)),
                entry(b"a/b", file(1)),
            ],
            vec![entry(b"a", EntryKind::Link { target: vec![] })],
            vec![entry(b"a", file(u64::MAX)), entry(b"b", file(1))],
        ];
        for entries in cases {
            assert!(Tree::new(entries.clone()).is_err(), "{entries:?}");
        }
    }

    #[test]
    fn what_is_rich_must_make_sense() {
        let name = |to| EntryKind::HardLink { to };
        let with = |attributes: &[Attribute]| Entry {
            attributes: attributes.to_vec(),
            ..entry(b"a", file(1))
        };
        let folder = || entry(b"a", EntryKind::Folder);
        assert!(
            tree(vec![
                entry(b"a", file(1)),
                entry(b"b", name(0)),
                entry(b"c", name(0))
            ])
            .is_some()
        );
        let mut other_mode = entry(b"b", name(0));
        other_mode.metadata.mode = 0;
        let access = attribute(b"system.posix_acl_access", b"x");
        let many: Vec<Attribute> = (0..257)
            .map(|number| attribute(format!("user.{number:03}").as_bytes(), b""))
            .collect();
        assert!(tree(vec![with(&[access.clone(), attribute(b"user.b", b"")])]).is_some());
        let cases = [
            vec![entry(b"a", name(0))],
            vec![entry(b"a", name(1)), entry(b"b", file(1))],
            vec![folder(), entry(b"b", name(0))],
            vec![
                entry(b"a", file(1)),
                entry(b"b", name(0)),
                entry(b"c", name(1)),
            ],
            vec![entry(b"a", file(1)), other_mode],
            vec![
                entry(b"a", file(1)),
                Entry {
                    path: TreePath::new(b"b".to_vec()).unwrap(),
                    kind: name(0),
                    ..with(std::slice::from_ref(&access))
                },
            ],
            vec![with(&[attribute(b"system.ntfs_acl", b"")])],
            vec![with(&[attribute(b"security.selinux", b"")])],
            vec![with(&[attribute(b"user.a\0", b"")])],
            vec![with(&[attribute(b"user.a", &[0; 65536])])],
            vec![with(&[access.clone(), access.clone()])],
            vec![with(&[attribute(b"user.a", b""), access])],
            vec![with(&many)],
            vec![entry(b"a", sparse(9000, &[(4096, 8192)]))],
            vec![entry(b"a", sparse(9000, &[(1, 4096)]))],
            vec![entry(b"a", sparse(9000, &[(0, 100)]))],
            vec![entry(b"a", sparse(9000, &[(0, 0)]))],
            vec![entry(b"a", sparse(9000, &[(0, 4096), (4096, 4096)]))],
            vec![entry(b"a", sparse(9000, &[(0, u64::MAX)]))],
        ];
        for entries in cases {
            assert!(Tree::new(entries.clone()).is_err(), "{entries:?}");
        }
        assert!(tree(vec![entry(b"a", sparse(9000, &[(0, 4096), (8192, 808)]))]).is_some());
    }

    #[test]
    fn the_version_is_the_lowest_that_can_tell_it() {
        let plain = tree(vec![entry(b"a", file(1))]).unwrap().encode();
        let rich = tree(vec![entry(b"a", file(1)), entry(b"b", EntryKind::Fifo)])
            .unwrap()
            .encode();
        assert_eq!((plain[8], rich[8]), (1, 2));
        for (mut bytes, version) in [(plain, 2), (rich.clone(), 1), (rich, 3)] {
            bytes[8] = version;
            assert!(Manifest::decode(&bytes).is_err(), "{version}");
        }
        let image = Image::new(0, vec![]).unwrap();
        let mut bytes = Manifest::new(vec![], Shape::Image(image)).unwrap().encode();
        bytes[8] = 2;
        assert!(Manifest::decode(&bytes).is_err());
    }

    #[test]
    fn unsafe_paths_are_refused() {
        for path in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0b"] {
            assert!(TreePath::new(path.as_bytes().to_vec()).is_err(), "{path:?}");
        }
        for path in ["a", "..a", "Ærlig talt/blåbær.txt", "a/b/c", "…"] {
            assert!(TreePath::new(path.as_bytes().to_vec()).is_ok(), "{path:?}");
        }
        assert!(TreePath::new(vec![b'a'; 256]).is_err());
        assert!(TreePath::new(b"a/".repeat(200).into_iter().chain(*b"a").collect()).is_err());
    }

    #[test]
    fn contradicting_images_are_refused() {
        let cases = [
            (4096, vec![(0, 8192)]),
            (8192, vec![(512, 4096)]),
            (16384, vec![(0, 1024)]),
            (16384, vec![(0, 4096), (4096, 4096)]),
            (16384, vec![(8192, 4096), (0, 4096)]),
            (16384, vec![(0, 0)]),
            (1000, vec![]),
            (!511, vec![]),
            (16384, vec![(!4095, 8192)]),
        ];
        for (bytes, extents) in cases {
            let parts = extents
                .iter()
                .map(|(offset, bytes)| Extent {
                    offset: *offset,
                    bytes: *bytes,
                })
                .collect();
            assert!(Image::new(bytes, parts).is_err(), "{bytes} {extents:?}");
        }
        assert!(
            Image::new(
                4096 + 512,
                vec![Extent {
                    offset: 4096,
                    bytes: 512
                }]
            )
            .is_ok()
        );
    }

    #[test]
    fn a_huge_count_is_refused_before_it_is_believed() {
        let image = Image::new(0, vec![]).unwrap();
        let mut bytes = Manifest::new(vec![], Shape::Image(image)).unwrap().encode();
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(Manifest::decode(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn round_trip(manifest in any_manifest()) {
            let bytes = manifest.encode();
            prop_assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Manifest::decode(&bytes).is_err());
        }

        #[test]
        fn a_cut_is_refused(manifest in any_manifest(), cut in any::<prop::sample::Index>()) {
            let bytes = manifest.encode();
            prop_assert!(Manifest::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn a_flipped_bit_is_refused_or_another_manifest(
            manifest in any_manifest(),
            at in any::<prop::sample::Index>(),
            bit in 0..8_u8,
        ) {
            let mut bytes = manifest.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(read) = Manifest::decode(&bytes) {
                prop_assert_ne!(&read, &manifest);
                prop_assert_eq!(read.encode(), bytes);
            }
        }
    }
}
