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
    DEPTH_MAX, Entry, EntryKind, LINK_BYTES_MAX, Metadata, NAME_BYTES_MAX, PATH_BYTES_MAX, Tree,
    TreePath,
};
use crate::error::ContentError;
use crate::frame::RAW_BYTES_MAX;

/// The longest manifest: seven million chunks, or two million files.
pub const MANIFEST_BYTES_MAX: usize = 256 << 20;

const MAGIC: &[u8; 8] = b"FSTGMANI";
const VERSION: u16 = 1;
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
        match from.u16()? {
            VERSION => {}
            0 => return Err(bad("its version is 0")),
            version => {
                return Err(ContentError::Newer {
                    what: "manifest",
                    version,
                    newest: VERSION,
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
            KIND_TREE => Shape::Tree(Tree::decode(&mut from)?),
            KIND_IMAGE => Shape::Image(Image::decode(&mut from)?),
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
        bytes.extend_from_slice(&VERSION.to_le_bytes());
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
        ChunkRef, Entry, EntryKind, Extent, Image, Manifest, Metadata, Shape, Tree, TreePath,
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
        }
    }

    fn file(bytes: u64) -> EntryKind {
        EntryKind::File {
            bytes,
            digest: Digest::of(b""),
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
                        0 => entries.push(entry(name.as_bytes(), file(size))),
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
