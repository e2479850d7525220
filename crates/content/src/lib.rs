//! Content: chunks, packs, manifests, the library, convergence and the bundle.
//!
//! Content is a stream of chunks, each named by the digest of its bytes, and a manifest that says where the stream
//! goes. Applying content is never copying: it is making a target equal to a manifest, taking each chunk from the
//! nearest place that has it. The formats are in `docs/formats/`: `pack.md`, `manifest.md`, `bundle.md`.
//!
//! Invariants: no byte is written to a target or counted as present before its digest was checked on the very buffer
//! that is then used; no length from outside is believed before it was compared with its limit; content is never
//! changed in place; nothing is collected but what a plan named. Deliberately absent: the network (a source is handed in),
//! who needs what, and any knowledge of task sequences.

mod attributes;
mod buffer;
mod bundle;
mod capture;
mod converge;
mod error;
mod filesystem;
mod frame;
mod hashed;
mod library;
pub mod manifest;
mod meter;
mod pack;
mod parallel;
mod patch;
mod source;

pub use bundle::{
    Bundle, Unverified, Verified, key_id, put_signature, read_root, sign_root, write_bundle,
};
pub use capture::{capture_image, capture_tree};
pub use converge::image::{compare_image, converge_image};
pub use converge::library::converge_library;
pub use converge::tree::{Difference, compare_tree, converge_tree};
pub use error::ContentError;
pub use filesystem::{Unsettled, check_settled};
pub use frame::{CHUNK_BYTES_MAX, Frame, RAW_BYTES_MAX};
pub use library::{
    FilesKept, GcPlan, Keeping, Library, LibraryStats, PackWriter, StoredPatch, VerifyReport,
};
pub use manifest::{ChunkRef, Manifest};
pub use meter::{Meter, NoMeter};
pub use patch::{Patch, PatchBytes, PatchSource};
pub use source::{ChunkSource, SourceKind, WANTED_MAX};
