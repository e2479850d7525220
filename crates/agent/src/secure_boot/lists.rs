//! The lists in which firmware keeps whom it trusts (`db`) and whom no more (`dbx`): `EFI_SIGNATURE_LIST`, UEFI 2.10,
//! section 32.4.1. Strict: a list that contradicts itself is refused as a whole.

use uuid::{Uuid, uuid};

/// Firmware has 64 KiB for all variables together, or a few times that; the longest `dbx` has 24 KiB.
pub(super) const LISTS_BYTES_MAX: usize = 1 << 20;
/// A list of digests as long as all lists may be.
const ENTRIES_MAX: usize = 32 << 10;
/// Type, and three lengths.
const HEADER_BYTES: usize = 28;
/// Before each entry: who put it there.
const OWNER_BYTES: usize = 16;
const SHA256_BYTES: usize = 32;
/// After the digest of a certificate: when it was revoked. We take every one for revoked from the beginning.
const TIME_BYTES: usize = 16;

const X509: Uuid = uuid!("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
const SHA256: Uuid = uuid!("c1c41626-504c-4092-aca9-41f936934328");
const X509_SHA256: Uuid = uuid!("3bd2a492-96c0-4079-b420-fcf98ef103ed");

/// One entry, of a kind that firmware of today writes. Others are passed over, but must have the right lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A certificate (DER).
    Certificate(Vec<u8>),
    /// The Authenticode digest of an image.
    Image([u8; SHA256_BYTES]),
    /// The digest of what is signed in a certificate.
    CertificateDigest([u8; SHA256_BYTES]),
}

/// Why lists can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a list of signatures is damaged: {0}")]
pub(crate) struct Damaged(&'static str);

/// Reads the lists of a variable, one behind the other.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Entry>, Damaged> {
    if bytes.len() > LISTS_BYTES_MAX {
        return Err(Damaged("it is too long"));
    }
    let mut entries = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let list_bytes = length_at(rest, 16)?;
        if list_bytes < HEADER_BYTES || list_bytes > rest.len() {
            return Err(Damaged("its length is out of bounds"));
        }
        let (list, behind) = rest.split_at(list_bytes);
        rest = behind;
        parse_list(list, &mut entries)?;
    }
    Ok(entries)
}

fn parse_list(list: &[u8], entries: &mut Vec<Entry>) -> Result<(), Damaged> {
    let kind: [u8; 16] = list
        .get(..16)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Damaged("it is cut off"))?;
    let kind = Uuid::from_bytes_le(kind);
    let entry_bytes = length_at(list, 24)?;
    let signatures = length_at(list, 20)?
        .checked_add(HEADER_BYTES)
        .and_then(|start| list.get(start..))
        .ok_or(Damaged("its header leaves it"))?;
    if signatures.is_empty() {
        return Ok(());
    }
    let is_sized = match kind {
        SHA256 => entry_bytes == OWNER_BYTES + SHA256_BYTES,
        X509_SHA256 => entry_bytes == OWNER_BYTES + SHA256_BYTES + TIME_BYTES,
        _ => entry_bytes > OWNER_BYTES,
    };
    if !is_sized || signatures.len() % entry_bytes != 0 {
        return Err(Damaged("the length of its entries doesn't fit it"));
    }
    for signature in signatures.chunks_exact(entry_bytes) {
        let data = &signature[OWNER_BYTES..];
        let digest = data.first_chunk::<SHA256_BYTES>();
        let entry = match (kind, digest) {
            (X509, _) => Entry::Certificate(data.to_vec()),
            (SHA256, Some(digest)) => Entry::Image(*digest),
            (X509_SHA256, Some(digest)) => Entry::CertificateDigest(*digest),
            _ => continue,
        };
        if entries.len() == ENTRIES_MAX {
            return Err(Damaged("it has too many entries"));
        }
        entries.push(entry);
    }
    Ok(())
}

fn length_at(bytes: &[u8], at: usize) -> Result<usize, Damaged> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field
        .map(|field| u32::from_le_bytes(*field) as usize)
        .ok_or(Damaged("it is cut off"))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A list of entries of this kind, which all have the same length.
    fn list(kind: Uuid, header: &[u8], data: &[&[u8]]) -> Vec<u8> {
        let entry_bytes = OWNER_BYTES + data.first().map_or(1, |data| data.len());
        let number = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
        let all = HEADER_BYTES + header.len() + data.len() * entry_bytes;
        let mut list = kind.to_bytes_le().to_vec();
        list.extend([number(all), number(header.len()), number(entry_bytes)].concat());
        list.extend(header);
        for data in data {
            list.extend([&[7; OWNER_BYTES], *data].concat());
        }
        list
    }

    /// The lists of a variable with these entries, one list for each.
    pub(crate) fn encode(entries: &[Entry]) -> Vec<u8> {
        let encode = |entry: &Entry| match entry {
            Entry::Certificate(der) => list(X509, &[], &[der]),
            Entry::Image(digest) => list(SHA256, &[], &[digest]),
            Entry::CertificateDigest(digest) => list(
                X509_SHA256,
                &[],
                &[&[&digest[..], &[0; TIME_BYTES]].concat()],
            ),
        };
        entries.iter().flat_map(encode).collect()
    }

    fn entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 1..99).prop_map(Entry::Certificate),
            any::<[u8; 32]>().prop_map(Entry::Image),
            any::<[u8; 32]>().prop_map(Entry::CertificateDigest),
        ]
    }

    #[test]
    fn a_list_has_many_entries_and_other_kinds_are_passed_over() {
        let other = list(Uuid::from_u128(1), b"head", &[b"abc", b"def"]);
        let two = list(SHA256, b"", &[&[1; 32], &[2; 32]]);
        let empty = list(SHA256, b"", &[]);
        // An empty list may name any length of the entries that it doesn't have.
        assert_eq!(parse(&empty), Ok(vec![]));
        assert_eq!(
            parse(&[&other[..], &two, &other].concat()),
            Ok(vec![Entry::Image([1; 32]), Entry::Image([2; 32])])
        );
        assert_eq!(parse(&[]), Ok(vec![]));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let good = list(SHA256, b"", &[&[1; 32]]);
        let number = |at: usize, number: u32| {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&number.to_le_bytes());
            parse(&bad)
        };
        assert_eq!(parse(&good), Ok(vec![Entry::Image([1; 32])]));
        for (at, wrong) in [
            (16, 0),
            (16, 27),
            (16, 77),
            (16, u32::MAX),
            (20, 1),
            (20, u32::MAX),
            (24, 0),
            (24, 16),
            (24, 47),
            (24, u32::MAX),
        ] {
            assert!(number(at, wrong).is_err(), "{wrong} at {at}");
        }
        assert!(parse(&good[..75]).is_err());
        assert!(parse(&[&good[..], b"x"].concat()).is_err());
        assert!(parse(&vec![0; LISTS_BYTES_MAX + 1]).is_err());
    }

    proptest! {
        #[test]
        fn what_was_written_comes_back(entries in prop::collection::vec(entry(), 0..9)) {
            prop_assert_eq!(parse(&encode(&entries)), Ok(entries));
        }

        #[test]
        fn damage_never_panics(
            entries in prop::collection::vec(entry(), 0..4),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut bytes = encode(&entries);
            for (at, value) in flips {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = value;
                }
            }
            let _ = parse(&bytes);
        }
    }
}
