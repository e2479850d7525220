//! What firmware starts: a PE image, its Authenticode digest, and the signatures behind it.
//!
//! The digest is made as firmware makes it (Microsoft's "Windows Authenticode Portable Executable Signature Format", and
//! `DxeImageVerificationLib` of EDK II where that leaves something open).

use ring::digest::{Context, SHA256};

/// A boot image has 30 MB.
pub(super) const IMAGE_BYTES_MAX: u64 = 1 << 30;
const SECTIONS_MAX: usize = 96;
/// Kernels have one signature, some programs of Microsoft's two.
const SIGNATURES_MAX: usize = 16;
const SECTION_HEADER_BYTES: usize = 40;
/// Where a PE32+ image says how many entries its directory has.
const ENTRIES_AT: usize = 108;
/// The entry that says where the signatures are.
const SIGNATURES_ENTRY: usize = 4;
/// A signature as PKCS #7, the only kind that firmware takes here.
const PKCS_SIGNED_DATA: u16 = 2;

/// An image as firmware sees it.
#[derive(Debug)]
pub(super) struct Image<'a> {
    /// Its Authenticode digest.
    pub(super) digest: [u8; 32],
    /// Its signatures: PKCS #7, perhaps with zeros behind.
    pub(super) signatures: Vec<&'a [u8]>,
}

/// Why an image is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no sound program for UEFI: {0}")]
pub(super) struct NoImage(&'static str);

const CUT_OFF: NoImage = NoImage("it is cut off");

impl<'a> Image<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, NoImage> {
        if bytes.get(..2) != Some(b"MZ") {
            return Err(NoImage("it has no MZ header"));
        }
        let pe = number(bytes, 0x3c)?;
        if bytes.get(pe..pe.saturating_add(4)) != Some(b"PE\0\0") {
            return Err(NoImage("it has no PE header"));
        }
        let optional = pe + 24;
        if short(bytes, optional)? != 0x20b {
            return Err(NoImage("it isn't PE32+"));
        }
        let entry = optional + ENTRIES_AT + 4 + SIGNATURES_ENTRY * 8;
        if number(bytes, optional + ENTRIES_AT)? <= SIGNATURES_ENTRY {
            return Err(NoImage("its directory is too short"));
        }
        let (at, length) = (number(bytes, entry)?, number(bytes, entry + 4)?);
        let table = at
            .checked_add(length)
            .and_then(|end| bytes.get(at..end))
            .ok_or(NoImage("its signatures leave it"))?;
        let headers_end = number(bytes, optional + 60)?;
        if headers_end < entry + 8 || headers_end > bytes.len() {
            return Err(NoImage("the length of its headers is out of bounds"));
        }
        let mut hash = Context::new(&SHA256);
        // The checksum and the place of the signatures are left out: signing changes them.
        hash.update(&bytes[..optional + 64]);
        hash.update(&bytes[optional + 68..entry]);
        hash.update(&bytes[entry + 8..headers_end]);
        let mut hashed = headers_end;
        for (at, length) in sections(bytes, pe)? {
            let end = at.checked_add(length).ok_or(CUT_OFF)?;
            hash.update(bytes.get(at..end).ok_or(NoImage("a section leaves it"))?);
            hashed = hashed.checked_add(length).ok_or(CUT_OFF)?;
        }
        if bytes.len() > hashed {
            let rest = bytes.len().checked_sub(length);
            let rest = rest.and_then(|end| bytes.get(hashed..end));
            hash.update(rest.ok_or(NoImage("its signatures overlap with it"))?);
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        Ok(Self {
            digest,
            signatures: signatures(table)?,
        })
    }
}

/// Where the sections with data are, in the order in which they lie.
fn sections(bytes: &[u8], pe: usize) -> Result<Vec<(usize, usize)>, NoImage> {
    let count = usize::from(short(bytes, pe + 6)?);
    if count > SECTIONS_MAX {
        return Err(NoImage("it has too many sections"));
    }
    let table = pe + 24 + usize::from(short(bytes, pe + 20)?);
    let mut sections = (0..count)
        .map(|index| {
            let at = table + index * SECTION_HEADER_BYTES;
            Ok((number(bytes, at + 20)?, number(bytes, at + 16)?))
        })
        .collect::<Result<Vec<_>, NoImage>>()?;
    sections.retain(|(_, length)| *length > 0);
    sections.sort_by_key(|(at, _)| *at);
    Ok(sections)
}

/// Each has its length, a revision and its kind before it, and begins at a multiple of eight.
fn signatures(table: &[u8]) -> Result<Vec<&[u8]>, NoImage> {
    let mut found = Vec::new();
    let mut rest = table;
    while !rest.is_empty() {
        let length = number(rest, 0)?;
        let signature = rest
            .get(8..length)
            .ok_or(NoImage("a signature leaves its table"))?;
        if found.len() == SIGNATURES_MAX {
            return Err(NoImage("it has too many signatures"));
        }
        if short(rest, 6)? == PKCS_SIGNED_DATA {
            found.push(signature);
        }
        let next = length.checked_next_multiple_of(8).ok_or(CUT_OFF)?;
        // Firmware wants the padding to be there, too.
        rest = rest
            .get(next..)
            .ok_or(NoImage("a signature leaves its table"))?;
    }
    Ok(found)
}

fn short(bytes: &[u8], at: usize) -> Result<u16, NoImage> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map(|field| u16::from_le_bytes(*field)).ok_or(CUT_OFF)
}

fn number(bytes: &[u8], at: usize) -> Result<usize, NoImage> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field
        .map(|field| u32::from_le_bytes(*field) as usize)
        .ok_or(CUT_OFF)
}
