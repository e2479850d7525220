//! Windows images (WIM): one of them laid out on an NTFS volume, without root, by the programs that know both.

use std::fs::{self, File};

use camino::{Utf8Path, Utf8PathBuf};
use wire::digest::Digest;

use crate::command::Program;
use crate::error::MediaError;
use crate::progress::Progress;
use crate::tree;

const MIB: u64 = 1 << 20;
/// What a volume has beside its files: its own tables, and room for the first start.
const ROOM_BYTES: u64 = 256 * MIB;
/// A fresh Windows has 20 GB. What an archive claims must not fill a disk with tables.
const IMAGE_BYTES_MAX: u64 = 1 << 40;

/// An image in a Windows archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WimSource {
    /// The archive, such as `install.wim`.
    #[schemars(with = "String")]
    pub file: Utf8PathBuf,
    /// The image to take, counted from 1; may be left out if there is only one.
    #[serde(default)]
    pub index: Option<u32>,
}

/// An image in an archive, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Listed {
    index: u32,
    name: String,
    bytes: u64,
}

/// An NTFS volume with the files of one image, below `cache`, where it stays for the next time. `fingerprint` tells the
/// archive from others.
pub(crate) fn volume_image(
    source: &WimSource,
    archive: &Utf8Path,
    fingerprint: &str,
    cache: &Utf8Path,
    progress: &dyn Progress,
) -> Result<Utf8PathBuf, MediaError> {
    let info = wimlib(&["info", archive.as_str()])
        .run()
        .map_err(MediaError::command(format!("read the archive {archive}")))?;
    let image = choose(source, archive, &listed(&info))?;
    let folder = cache.join("windows-images");
    let which = format!("{fingerprint} {}", image.index);
    let name = archive.file_stem().unwrap_or("windows");
    let kept = folder.join(format!(
        "{name}-{}.img",
        Digest::of(which.as_bytes()).short()
    ));
    if kept.is_file() {
        return Ok(kept);
    }
    progress.phase(&format!("applying {} of {archive}", image.name));
    let (_scratch, scratch) = tree::scratch(&folder)?;
    let volume = scratch.join("volume.img");
    make_volume(&volume, image.bytes)?;
    let index = image.index.to_string();
    wimlib(&[
        "apply",
        archive.as_str(),
        &index,
        volume.as_str(),
        "--quiet",
    ])
    .run()
    .map_err(MediaError::command(format!(
        "apply image {index} of {archive}"
    )))?;
    fs::rename(&volume, &kept).map_err(MediaError::write(&kept))?;
    Ok(kept)
}

fn wimlib(args: &[&str]) -> Program {
    Program::new("wimlib-imagex").args(args.iter().copied())
}

/// An empty NTFS volume a quarter larger than what it is to hold, and 256 MiB.
fn make_volume(volume: &Utf8Path, content_bytes: u64) -> Result<(), MediaError> {
    let bytes = (content_bytes / 4 * 5 + ROOM_BYTES).next_multiple_of(MIB);
    let file = File::create_new(volume).map_err(MediaError::write(volume))?;
    file.set_len(bytes).map_err(MediaError::write(volume))?;
    // The geometry that Windows writes for every disk; where the partition begins isn't known here.
    let geometry = [
        "-c", "4096", "-s", "512", "-p", "0", "-H", "255", "-S", "63",
    ];
    let program = Program::new("mkntfs").args(["-q", "-Q", "-F", "-L", "Windows"]);
    let made = program.args(geometry).arg(volume.as_str()).run();
    made.map(drop)
        .map_err(MediaError::command("make an NTFS volume"))
}

/// What `wimlib-imagex info` tells of the images in an archive.
fn listed(info: &str) -> Vec<Listed> {
    let mut found: Vec<Listed> = Vec::new();
    for line in info.lines() {
        let Some((key, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if key == "Index" {
            found.push(Listed {
                index: value.parse().unwrap_or_default(),
                ..Listed::default()
            });
        }
        match (key, found.last_mut()) {
            ("Name", Some(image)) => image.name = value.to_owned(),
            ("Total Bytes", Some(image)) => image.bytes = value.parse().unwrap_or(u64::MAX),
            _ => {}
        }
    }
    found
}

fn choose(source: &WimSource, archive: &Utf8Path, images: &[Listed]) -> Result<Listed, MediaError> {
    let list = || {
        let one = |image: &Listed| format!("{} ({})", image.index, image.name);
        images.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let is_wanted = |image: &&Listed| source.index.is_none_or(|index| image.index == index);
    let wanted: Vec<&Listed> = images.iter().filter(is_wanted).collect();
    match wanted[..] {
        [image] if image.bytes > IMAGE_BYTES_MAX => Err(MediaError::unusable(
            archive,
            "Windows archive",
            format!("image {} claims to have {} bytes", image.index, image.bytes),
        )),
        [image] => Ok(image.clone()),
        [] => Err(MediaError::refused(
            format!("{archive} has no such image"),
            format!("it has {}", list()),
        )),
        _ => Err(MediaError::refused(
            format!("{archive} has several images, and it isn't said which one to take"),
            format!("set index to one of {}", list()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk_image::check_filesystem;
    use crate::progress::Silent;

    #[test]
    fn an_image_of_an_archive_becomes_a_volume() {
        let folder = tempfile::tempdir().expect("folder");
        let base = Utf8Path::from_path(folder.path()).expect("UTF-8");
        let archive = base.join("install.wim");
        for (number, edition) in ["Windows 11 Pro", "Windows 11 Education"]
            .iter()
            .enumerate()
        {
            let tree = base.join(format!("tree {number}"));
            fs::create_dir_all(tree.join("Users")).expect("folder");
            fs::write(tree.join("Users/blåbær.txt"), edition).expect("file");
            let verb = ["capture", "append"][number];
            let args = [verb, tree.as_str(), archive.as_str(), edition, "--quiet"];
            wimlib(&args)
                .run()
                .expect("this test needs wimlib-imagex (wimtools)");
        }
        let make = |index| {
            let source = WimSource {
                file: "install.wim".into(),
                index,
            };
            volume_image(&source, &archive, "print", base, &Silent)
        };
        let volume = make(Some(2)).expect("it is applied");
        check_filesystem(&volume).expect("it is in order");
        let read = Program::new("ntfscat").args([volume.as_str(), "/Users/blåbær.txt"]);
        assert_eq!(
            read.env("LC_ALL", "C.UTF-8").run().expect("ntfscat"),
            "Windows 11 Education"
        );
        assert_eq!(make(Some(2)).expect("it is there"), volume);

        let refusal = |index| {
            let error = make(index).expect_err("it is refused");
            (error.to_string(), error.hint().expect("a hint").to_owned())
        };
        let all = "1 (Windows 11 Pro), 2 (Windows 11 Education)";
        let (what, hint) = refusal(None);
        assert!(what.contains("several images"), "{what}");
        assert_eq!(hint, format!("set index to one of {all}"));
        let (what, hint) = refusal(Some(3));
        assert!(what.contains("no such image"), "{what}");
        assert_eq!(hint, format!("it has {all}"));
    }
}
