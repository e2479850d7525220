//! Debian packages as files: an `ar` archive with two packed tar archives.
//!
//! Packed data hide what two versions have in common, so packages are rewritten with plain tar archives before they
//! are cut into chunks. `dpkg` installs those like any other.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};

use camino::Utf8Path;

use crate::error::MediaError;

const AR_MAGIC: &[u8] = b"!<arch>\n";
/// A package has three members; signatures add one or two.
const MEMBERS_MAX: usize = 16;
/// `ar` has ten decimal digits for a length; the largest package of Debian unpacks to 3 GB.
const MEMBER_BYTES_MAX: u64 = 8 << 30;

/// The header of a member of an `ar` archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    name: String,
    bytes: u64,
}

/// Rewrites the package `from` into `to` with unpacked members.
pub(crate) fn repack(from: &Utf8Path, to: &Utf8Path) -> Result<(), MediaError> {
    let bad = |reason: String| MediaError::unusable(from, "Debian package", reason);
    let mut input = BufReader::new(File::open(from).map_err(MediaError::read(from))?);
    let mut output = BufWriter::new(File::create(to).map_err(MediaError::write(to))?);
    let mut magic = [0; 8];
    input
        .read_exact(&mut magic)
        .map_err(MediaError::read(from))?;
    if magic != AR_MAGIC {
        return Err(bad("it does not begin like one".into()));
    }
    output.write_all(AR_MAGIC).map_err(MediaError::write(to))?;
    let mut count = 0;
    while let Some(member) = read_header(&mut input).map_err(MediaError::read(from))? {
        let member = member.map_err(|reason| bad(reason.into()))?;
        count += 1;
        if count > MEMBERS_MAX {
            return Err(bad("it has too many members".into()));
        }
        copy_member(&mut input, &member, &mut output)
            .map_err(|error| bad(format!("its member {}: {error}", member.name)))?;
        if member.bytes % 2 == 1 {
            input.read_exact(&mut [0]).map_err(MediaError::read(from))?;
        }
    }
    if count < 3 {
        return Err(bad("it lacks members".into()));
    }
    let output = output.into_inner().map_err(|error| error.into_error());
    output
        .and_then(|file| file.sync_all())
        .map_err(MediaError::write(to))
}

/// Reads the next member's header; `None` at a clean end.
fn read_header(input: &mut impl Read) -> io::Result<Option<Result<Member, &'static str>>> {
    let mut header = [0; 60];
    let mut filled = 0;
    while filled < header.len() {
        match input.read(&mut header[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(Some(parse_header(&header)))
}

fn parse_header(header: &[u8; 60]) -> Result<Member, &'static str> {
    if &header[58..] != b"`\n" {
        return Err("the header of a member is damaged");
    }
    let text =
        std::str::from_utf8(&header[..58]).map_err(|_| "the header of a member is not text")?;
    if !text.is_ascii() {
        return Err("the header of a member is not ASCII");
    }
    let name = text[..16].trim_end().trim_end_matches('/');
    let bytes = text[48..58]
        .trim()
        .parse()
        .map_err(|_| "the length of a member is not a number")?;
    if name.is_empty() || name.contains(' ') {
        return Err("the name of a member is damaged");
    }
    if bytes > MEMBER_BYTES_MAX {
        return Err("a member is too long");
    }
    Ok(Member {
        name: name.to_owned(),
        bytes,
    })
}

/// Copies a member, unpacking it if it is a packed tar archive. The length is filled in afterwards.
fn copy_member(
    input: &mut impl Read,
    member: &Member,
    output: &mut BufWriter<File>,
) -> io::Result<()> {
    let packed = input.by_ref().take(member.bytes);
    let (name, mut plain): (&str, Box<dyn Read + '_>) = match member.name.rsplit_once('.') {
        Some((name, "xz")) => (
            name,
            Box::new(liblzma::read::XzDecoder::new_multi_decoder(packed)),
        ),
        Some((name, "gz")) => (name, Box::new(flate2::read::MultiGzDecoder::new(packed))),
        Some((name, "zst")) => (name, Box::new(zstd::Decoder::new(packed)?)),
        Some((_, "tar")) | None => (&member.name, Box::new(packed)),
        _ if member.name.contains(".tar.") => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is packed in a way we do not read",
            ));
        }
        _ => (&member.name, Box::new(packed)),
    };
    let start = output.stream_position()?;
    output.write_all(&[b' '; 60])?;
    let bytes = io::copy(&mut plain.by_ref().take(MEMBER_BYTES_MAX + 1), output)?;
    if bytes > MEMBER_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "it unpacks to more than 8 GiB",
        ));
    }
    drop(plain);
    if name == member.name && bytes != member.bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if bytes % 2 == 1 {
        output.write_all(b"\n")?;
    }
    let end = output.stream_position()?;
    output.seek(SeekFrom::Start(start))?;
    // A time of zero: the same content makes the same bytes.
    writeln!(
        output,
        "{name:<16}{:<12}{:<6}{:<6}{:<8}{bytes:<10}`",
        0, 0, 0, 100_644
    )?;
    output.seek(SeekFrom::Start(end))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Member, parse_header, repack};
    use camino::{Utf8Path, Utf8PathBuf};
    use proptest::prelude::*;
    use std::process::Command;

    fn run(folder: &Utf8Path, program: &str, args: &[&str]) -> String {
        let output = Command::new(program)
            .args(args)
            .current_dir(folder)
            .output()
            .expect("it needs dpkg-deb");
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("text")
    }

    fn make(folder: &Utf8Path, packing: &str) -> Utf8PathBuf {
        let tree = folder.join("tree");
        std::fs::create_dir_all(tree.join("DEBIAN")).expect("folder");
        std::fs::create_dir_all(tree.join("usr/share/x")).expect("folder");
        let control = "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n";
        std::fs::write(tree.join("DEBIAN/control"), control).expect("file");
        std::fs::write(tree.join("usr/share/x/data"), vec![42; 100_001]).expect("file");
        run(
            folder,
            "dpkg-deb",
            &["--root-owner-group", packing, "--build", "tree", "x.deb"],
        );
        folder.join("x.deb")
    }

    #[test]
    fn dpkg_reads_a_repacked_package_of_every_packing() {
        for packing in ["-Zxz", "-Zgzip", "-Zzstd", "-Znone"] {
            let folder = tempfile::tempdir().expect("folder");
            let folder = Utf8Path::from_path(folder.path()).expect("UTF-8");
            let from = make(folder, packing);
            let to = folder.join("y.deb");
            repack(&from, &to).expect("it repacks");
            assert!(
                std::fs::metadata(&to).expect("file").len() > 100_001,
                "it is not packed"
            );
            for question in ["--field", "--contents"] {
                let answers =
                    [&from, &to].map(|deb| run(folder, "dpkg-deb", &[question, deb.as_str()]));
                assert_eq!(answers[0], answers[1], "{packing} {question}");
            }
            run(folder, "dpkg-deb", &["--info", to.as_str()]);
            let again = folder.join("z.deb");
            repack(&to, &again).expect("it repacks again");
            assert_eq!(
                std::fs::read(&to).expect("file"),
                std::fs::read(&again).expect("file")
            );
        }
    }

    #[test]
    fn cut_off_and_foreign_files_are_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let folder = Utf8Path::from_path(folder.path()).expect("UTF-8");
        let whole = std::fs::read(make(folder, "-Zxz")).expect("file");
        for length in [0, 7, 8, 50, 72, whole.len() / 2, whole.len() - 1] {
            let cut = folder.join("cut.deb");
            std::fs::write(&cut, &whole[..length]).expect("file");
            assert!(repack(&cut, &folder.join("out.deb")).is_err(), "{length}");
        }
    }

    #[test]
    fn lengths_are_limited() {
        let header = |length: &str| {
            let text = format!(
                "{:<16}{:<12}{:<6}{:<6}{:<8}{length:<10}`\n",
                "data.tar.xz", 0, 0, 0, 100_644
            );
            parse_header(text.as_bytes().try_into().expect("60 bytes"))
        };
        assert_eq!(
            header("12"),
            Ok(Member {
                name: "data.tar.xz".into(),
                bytes: 12
            })
        );
        assert!(header("9999999999").is_err());
        assert!(header("-1").is_err());
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(
            bytes in prop::array::uniform32(any::<u8>()),
            more in prop::array::uniform28(any::<u8>()),
        ) {
            let mut header = [0; 60];
            header[..32].copy_from_slice(&bytes);
            header[32..].copy_from_slice(&more);
            header[58..].copy_from_slice(b"`\n");
            let _ = parse_header(&header);
        }
    }
}
