//! Unified kernel images: systemd's EFI stub with kernel, initrd and command line appended as PE sections.
//!
//! The stub finds its parts by section name. Only the section table grows; what the stub loads stays where it is. What lies
//! behind its sections (symbols, which nobody loads) is cut off: a gap would be digested differently by different firmware,
//! and a signature be good for some.

/// COMMAND_LINE_SIZE of the kernel on x86-64, with its final zero byte.
const COMMAND_LINE_BYTES_MAX: usize = 2047;
/// PE offsets and sizes are 32 bits; far below that, firmware runs out of memory first.
const UKI_BYTES_MAX: usize = 1 << 30;
/// The stub has eight sections; a PE with more than a few dozen isn't a stub.
const SECTIONS_MAX: usize = 64;
/// Where a PE32+ image says how long its signatures are, behind "PE": the second number of the fifth directory.
const SIGNATURES_BYTES_AT: usize = 24 + 112 + 4 * 8 + 4;
/// One section header.
const SECTION_HEADER_BYTES: usize = 40;
/// Sections are loaded at page boundaries, as with every known stub.
const SECTION_ALIGNMENT_MIN: u32 = 0x1000;
/// Initialised data, readable.
const SECTION_CHARACTERISTICS: u32 = 0x4000_0040;

/// Why a unified kernel image can't be built or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UkiError {
    /// Not a PE32+ image we can extend.
    #[error("the PE image is damaged or of another kind: {0}")]
    Pe(&'static str),
    /// The header has no room for another section.
    #[error("the stub's header has no room for {0} more sections")]
    NoRoom(usize),
    /// A part is longer than what it is for can hold.
    #[error("{what} has {bytes} bytes; {max} are possible")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest.
        max: usize,
    },
    /// A part is missing or holds what it must not.
    #[error("{0}")]
    Part(&'static str),
}

/// What goes into a unified kernel image.
#[derive(Debug, Clone, Copy)]
pub struct UkiParts<'a> {
    /// The text of an os-release file; boot managers show its names.
    pub os_release: &'a str,
    /// The kernel command line.
    pub command_line: &'a str,
    /// The kernel, a bzImage.
    pub linux: &'a [u8],
    /// The packed initrd.
    pub initrd: &'a [u8],
    /// The kernel's release, such as `6.1.0-56-amd64`.
    pub uname: Option<&'a str>,
}

/// A section of a PE image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UkiSection<'a> {
    /// Its name, such as `.linux`.
    pub name: String,
    /// Where it is loaded.
    pub address: u32,
    /// Its bytes, without padding.
    pub bytes: &'a [u8],
}

/// Builds a unified kernel image from systemd's `stub`.
///
/// # Errors
/// If the stub isn't a PE32+ image with room for the sections, or a part is too long.
pub fn build_uki(stub: &[u8], parts: &UkiParts<'_>) -> Result<Vec<u8>, UkiError> {
    check_parts(parts)?;
    let header = Header::parse(stub)?;
    if u32_at(stub, header.pe + SIGNATURES_BYTES_AT)? != 0 {
        return Err(UkiError::Pe(
            "the stub is signed, and what is appended would be taken for its signature",
        ));
    }
    let mut added: Vec<(&'static str, &[u8])> = vec![
        (".osrel", parts.os_release.as_bytes()),
        (".cmdline", parts.command_line.as_bytes()),
    ];
    if let Some(uname) = parts.uname {
        added.push((".uname", uname.as_bytes()));
    }
    added.extend([(".linux", parts.linux), (".initrd", parts.initrd)]);

    let total = added
        .iter()
        .try_fold(stub.len(), |sum, (_, bytes)| sum.checked_add(bytes.len()));
    if total.is_none_or(|total| total > UKI_BYTES_MAX) {
        return Err(UkiError::TooLong {
            what: "the image",
            bytes: total.unwrap_or(usize::MAX),
            max: UKI_BYTES_MAX,
        });
    }
    let table_end = header.table + (header.sections.len() + added.len()) * SECTION_HEADER_BYTES;
    let first_data = header
        .sections
        .iter()
        .map(|section| section.raw_pointer)
        .filter(|&at| at > 0)
        .min();
    if table_end > header.size_of_headers || first_data.is_some_and(|first| table_end > first) {
        return Err(UkiError::NoRoom(added.len()));
    }
    if added
        .iter()
        .any(|(name, _)| header.sections.iter().any(|section| section.name == *name))
    {
        return Err(UkiError::Pe(
            "it already has a section of ours: this is no bare stub",
        ));
    }
    append(stub, &header, &added)
}

/// Reads the sections of a unified kernel image.
///
/// # Errors
/// If `image` isn't a sound PE32+ image.
pub fn parse_uki(image: &[u8]) -> Result<Vec<UkiSection<'_>>, UkiError> {
    let header = Header::parse(image)?;
    header
        .sections
        .into_iter()
        .map(|section| {
            let length = section.raw_size.min(section.virtual_size);
            let bytes = image.get(section.raw_pointer..section.raw_pointer + length);
            let bytes = bytes.ok_or(UkiError::Pe("a section lies outside of the file"))?;
            Ok(UkiSection {
                name: section.name,
                address: section.address,
                bytes,
            })
        })
        .collect()
}

fn check_parts(parts: &UkiParts<'_>) -> Result<(), UkiError> {
    if parts.command_line.len() > COMMAND_LINE_BYTES_MAX {
        let bytes = parts.command_line.len();
        return Err(UkiError::TooLong {
            what: "the command line",
            bytes,
            max: COMMAND_LINE_BYTES_MAX,
        });
    }
    if parts
        .command_line
        .bytes()
        .any(|byte| !(0x20..0x7f).contains(&byte))
    {
        return Err(UkiError::Part(
            "the command line holds more than printable ASCII",
        ));
    }
    // The magic number of the x86 boot protocol.
    if parts.linux.get(0x202..0x206) != Some(b"HdrS") {
        return Err(UkiError::Part("the kernel is not an x86 bzImage"));
    }
    if parts.initrd.is_empty() || parts.os_release.is_empty() {
        return Err(UkiError::Part("initrd and os-release must not be empty"));
    }
    Ok(())
}

fn append(
    stub: &[u8],
    header: &Header,
    added: &[(&'static str, &[u8])],
) -> Result<Vec<u8>, UkiError> {
    let overflow = UkiError::Pe("its addresses leave 32 bits");
    let alignment = header.section_alignment.max(SECTION_ALIGNMENT_MIN);
    let loaded = header
        .sections
        .iter()
        .map(|s| s.raw_pointer.saturating_add(s.raw_size));
    let loaded = loaded.max().unwrap_or(0).max(header.size_of_headers);
    let mut image = stub
        .get(..loaded)
        .ok_or(UkiError::Pe("a section lies outside of the file"))?
        .to_vec();
    let mut end = header
        .sections
        .iter()
        .map(|s| s.address.saturating_add(to_u32(s.virtual_size)))
        .max()
        .unwrap_or(0);
    let mut initialized = header.initialized_data;
    for (index, (name, bytes)) in added.iter().enumerate() {
        let address = end
            .checked_next_multiple_of(alignment)
            .ok_or(overflow.clone())?;
        image.resize(image.len().next_multiple_of(header.file_alignment), 0);
        let raw_size = bytes.len().next_multiple_of(header.file_alignment);
        let raw_pointer = image.len();
        let mut row = [0_u8; SECTION_HEADER_BYTES];
        row[..name.len()].copy_from_slice(name.as_bytes());
        row[8..12].copy_from_slice(&to_u32(bytes.len()).to_le_bytes());
        row[12..16].copy_from_slice(&address.to_le_bytes());
        row[16..20].copy_from_slice(&to_u32(raw_size).to_le_bytes());
        row[20..24].copy_from_slice(&to_u32(raw_pointer).to_le_bytes());
        row[36..40].copy_from_slice(&SECTION_CHARACTERISTICS.to_le_bytes());
        image.extend_from_slice(bytes);
        image.resize(raw_pointer + raw_size, 0);
        let at = header.table + (header.sections.len() + index) * SECTION_HEADER_BYTES;
        image[at..at + SECTION_HEADER_BYTES].copy_from_slice(&row);
        end = address
            .checked_add(to_u32(bytes.len()))
            .ok_or(overflow.clone())?;
        initialized = initialized
            .checked_add(to_u32(raw_size))
            .ok_or(overflow.clone())?;
    }
    let size_of_image = end
        .checked_next_multiple_of(header.section_alignment)
        .ok_or(overflow)?;
    let count = u16::try_from(header.sections.len() + added.len())
        .map_err(|_| UkiError::NoRoom(added.len()))?;
    image[header.pe + 6..header.pe + 8].copy_from_slice(&count.to_le_bytes());
    // Where the symbols were, and how many.
    image[header.pe + 12..header.pe + 20].fill(0);
    let optional = header.pe + 24;
    image[optional + 8..optional + 12].copy_from_slice(&initialized.to_le_bytes());
    image[optional + 56..optional + 60].copy_from_slice(&size_of_image.to_le_bytes());
    // A checksum of zero means "not computed"; firmware only looks at it for drivers.
    image[optional + 64..optional + 68].fill(0);
    Ok(image)
}

/// Lengths are at most [`UKI_BYTES_MAX`] by then, so this never saturates.
fn to_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

struct Section {
    name: String,
    virtual_size: usize,
    address: u32,
    raw_size: usize,
    raw_pointer: usize,
}

struct Header {
    pe: usize,
    table: usize,
    size_of_headers: usize,
    section_alignment: u32,
    file_alignment: usize,
    initialized_data: u32,
    sections: Vec<Section>,
}

impl Header {
    fn parse(image: &[u8]) -> Result<Self, UkiError> {
        if image.len() > UKI_BYTES_MAX {
            return Err(UkiError::TooLong {
                what: "the image",
                bytes: image.len(),
                max: UKI_BYTES_MAX,
            });
        }
        if image.get(..2) != Some(b"MZ") {
            return Err(UkiError::Pe("no MZ header"));
        }
        let pe = u32_at(image, 0x3c)? as usize;
        if image.get(pe..pe.saturating_add(4)) != Some(b"PE\0\0") {
            return Err(UkiError::Pe("no PE header"));
        }
        let optional = pe + 24;
        let optional_bytes = usize::from(u16_at(image, pe + 20)?);
        if u16_at(image, optional)? != 0x20b || optional_bytes < 112 {
            return Err(UkiError::Pe("not PE32+"));
        }
        let section_alignment = u32_at(image, optional + 32)?;
        let file_alignment = u32_at(image, optional + 36)? as usize;
        let known = |alignment: usize| {
            alignment.is_power_of_two() && (0x200..=0x1_0000).contains(&alignment)
        };
        if !known(section_alignment as usize) || !known(file_alignment) {
            return Err(UkiError::Pe("odd alignment"));
        }
        let table = optional + optional_bytes;
        let count = usize::from(u16_at(image, pe + 6)?);
        if count > SECTIONS_MAX {
            return Err(UkiError::Pe("too many sections"));
        }
        let size_of_headers = u32_at(image, optional + 60)? as usize;
        if size_of_headers > image.len() || table + count * SECTION_HEADER_BYTES > size_of_headers {
            return Err(UkiError::Pe("the section table leaves the headers"));
        }
        let sections =
            (0..count).map(|index| section_at(image, table + index * SECTION_HEADER_BYTES));
        Ok(Self {
            pe,
            table,
            size_of_headers,
            section_alignment,
            file_alignment,
            initialized_data: u32_at(image, optional + 8)?,
            sections: sections.collect::<Result<_, _>>()?,
        })
    }
}

fn section_at(image: &[u8], at: usize) -> Result<Section, UkiError> {
    let row = image
        .get(at..at + SECTION_HEADER_BYTES)
        .ok_or(UkiError::Pe("cut off"))?;
    let name: Vec<u8> = row[..8]
        .iter()
        .copied()
        .take_while(|&byte| byte != 0)
        .collect();
    Ok(Section {
        name: String::from_utf8_lossy(&name).into_owned(),
        virtual_size: u32_at(row, 8)? as usize,
        address: u32_at(row, 12)?,
        raw_size: u32_at(row, 16)? as usize,
        raw_pointer: u32_at(row, 20)? as usize,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, UkiError> {
    let field = bytes
        .get(at..at.saturating_add(2))
        .and_then(|field| field.try_into().ok());
    field.map(u16::from_le_bytes).ok_or(UkiError::Pe("cut off"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, UkiError> {
    let field = bytes
        .get(at..at.saturating_add(4))
        .and_then(|field| field.try_into().ok());
    field.map(u32::from_le_bytes).ok_or(UkiError::Pe("cut off"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A PE32+ image shaped like systemd's stub: one section, room for `room` more headers.
    pub(crate) fn stub(room: usize) -> Vec<u8> {
        let (pe, optional_bytes) = (0x80, 240);
        let table = pe + 24 + optional_bytes;
        let headers = table + (1 + room) * SECTION_HEADER_BYTES;
        let mut image = vec![0_u8; headers.next_multiple_of(0x200)];
        image[..2].copy_from_slice(b"MZ");
        image[0x3c] = 0x80;
        image[pe..pe + 4].copy_from_slice(b"PE\0\0");
        image[pe + 4..pe + 6].copy_from_slice(&0x8664_u16.to_le_bytes());
        image[pe + 6] = 1;
        image[pe + 20] = 240;
        let optional = pe + 24;
        image[optional..optional + 2].copy_from_slice(&0x20b_u16.to_le_bytes());
        image[optional + 32..optional + 36].copy_from_slice(&0x200_u32.to_le_bytes());
        image[optional + 36..optional + 40].copy_from_slice(&0x200_u32.to_le_bytes());
        image[optional + 60..optional + 64].copy_from_slice(&to_u32(headers).to_le_bytes());
        image[optional + 108] = 16;
        let raw = to_u32(image.len());
        image[table..table + 5].copy_from_slice(b".text");
        image[table + 8..table + 12].copy_from_slice(&0x34_u32.to_le_bytes());
        image[table + 12..table + 16].copy_from_slice(&0x19100_u32.to_le_bytes());
        image[table + 16..table + 20].copy_from_slice(&0x200_u32.to_le_bytes());
        image[table + 20..table + 24].copy_from_slice(&raw.to_le_bytes());
        image.extend_from_slice(&[0x90; 0x200]);
        image
    }

    pub(crate) fn kernel() -> Vec<u8> {
        let mut kernel = vec![7; 0x1234];
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel
    }

    fn build(stub: &[u8], command_line: &str, uname: Option<&str>) -> Result<Vec<u8>, UkiError> {
        let linux = kernel();
        build_uki(
            stub,
            &UkiParts {
                os_release: "ID=x\n",
                command_line,
                linux: &linux,
                initrd: &[1, 2, 3],
                uname,
            },
        )
    }

    #[test]
    fn parts_come_back_as_sections() {
        let image = build(&stub(5), "quiet", Some("6.1")).expect("it builds");
        let sections = parse_uki(&image).expect("it parses");
        let names: Vec<&str> = sections
            .iter()
            .map(|section| section.name.as_str())
            .collect();
        assert_eq!(
            names,
            [".text", ".osrel", ".cmdline", ".uname", ".linux", ".initrd"]
        );
        assert_eq!(sections[2].bytes, b"quiet");
        assert_eq!(sections[4].bytes, kernel());
        assert_eq!(sections[5].bytes, [1, 2, 3]);
        assert_eq!(sections[1].address, 0x1a000);
        assert!(
            sections[1..]
                .iter()
                .all(|section| section.address % 0x1000 == 0)
        );
        assert!(
            sections
                .windows(2)
                .all(|pair| pair[0].address + to_u32(pair[0].bytes.len()) <= pair[1].address)
        );
    }

    #[test]
    fn there_is_no_gap_whatever_lies_behind_the_stub() {
        let plain = stub(4);
        let mut with_symbols = plain.clone();
        with_symbols.extend_from_slice(&[9; 0x1234]);
        let (pe, at) = (0x80, to_u32(plain.len()));
        with_symbols[pe + 12..pe + 16].copy_from_slice(&at.to_le_bytes());
        with_symbols[pe + 16] = 7;
        let image = build(&with_symbols, "quiet", None).expect("it builds");
        assert_eq!(Ok(&image), build(&plain, "quiet", None).as_ref());
        let sections = Header::parse(&image).expect("it parses").sections;
        for pair in sections.windows(2) {
            assert_eq!(pair[0].raw_pointer + pair[0].raw_size, pair[1].raw_pointer);
        }
        let last = sections.last().expect("a section");
        assert_eq!(last.raw_pointer + last.raw_size, image.len());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(build(&stub(3), "quiet", None), Err(UkiError::NoRoom(4)));
        assert!(build(&stub(4), "quiet", None).is_ok());
        assert!(matches!(
            build(&stub(4), &"x".repeat(2048), None),
            Err(UkiError::TooLong { .. })
        ));
        assert!(matches!(
            build(&stub(4), "a\nb", None),
            Err(UkiError::Part(_))
        ));
        let image = build(&stub(8), "quiet", None).expect("it builds");
        assert!(
            matches!(build(&image, "quiet", None), Err(UkiError::Pe(_))),
            "a UKI is no stub"
        );
        assert!(matches!(build(b"MZ", "quiet", None), Err(UkiError::Pe(_))));
    }

    proptest! {
        #[test]
        fn damaged_stubs_never_panic(
            flips in prop::collection::vec((0_usize..0x600, any::<u8>()), 0..8),
            cut in 0_usize..0x700,
        ) {
            let mut image = stub(4);
            for (at, value) in flips {
                if let Some(byte) = image.get_mut(at) {
                    *byte = value;
                }
            }
            image.truncate(cut.max(1));
            let _ = parse_uki(&image);
            let _ = build(&image, "quiet", None);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            prop_assert!(build(&bytes, "quiet", None).is_err());
        }
    }
}
