//! Package definitions: what a person writes to have content published. See `docs/formats/package-definition.md`.

use std::fs;

use camino::{Utf8Path, Utf8PathBuf};
use wire::digest::Digest;
use wire::names::{PackageName, PackageVersion};
use wire::package::{Detect, Install, ModelRule, Package, PackageKind};

use crate::command::Program;
use crate::debian::{self, DebPackage};
use crate::disk_image;
pub use crate::disk_image::DiskSource;
use crate::error::MediaError;
use crate::progress::Progress;
use crate::windows_image;
pub use crate::windows_image::WimSource;
use crate::{deb, os_image, tree, yaml};

/// Folders that are links into `/usr` on every Debian since 12; a tree laid over it must not replace the links.
const MERGED_FOLDERS: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Parts of a driver's package that no device needs.
const DRIVER_LEFT_OUT: [&str; 3] = ["usr/share/doc", "usr/share/man", "usr/share/lintian"];

/// A package as a person describes it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PackageDefinition {
    /// The name.
    pub name: PackageName,
    /// The version; left out, it is found out from the content.
    #[serde(default)]
    pub version: Option<PackageVersion>,
    /// What it is for.
    pub kind: PackageKind,
    /// One line for people.
    #[serde(default)]
    pub title: String,
    /// Where its content comes from.
    pub source: Source,
    /// For drivers: the models it is for.
    #[serde(default)]
    pub models: Vec<ModelRule>,
    /// For applications: how it is installed; for Debian's packages it is found out.
    #[serde(default)]
    pub install: Option<Install>,
}

/// Where content comes from. Paths are relative to the definition's folder.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A filesystem image.
    Image(#[schemars(with = "String")] Utf8PathBuf),
    /// A partition of a disk.
    Disk(DiskSource),
    /// An image in a Windows archive.
    Wim(WimSource),
    /// A folder.
    Tree(#[schemars(with = "String")] Utf8PathBuf),
    /// A tar archive, packed or not.
    Tar(#[schemars(with = "String")] Utf8PathBuf),
    /// The recipe of an OS image, which is built if need be.
    OsRecipe(#[schemars(with = "String")] Utf8PathBuf),
    /// Packages of Debian's archive.
    Debian(DebianSource),
}

/// Packages of Debian's archive.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct DebianSource {
    /// `name` or `name=version`; the first gives the version of the whole.
    pub packages: Vec<String>,
    /// Take the packages without a version from this release, such as `bookworm` or `bookworm-security`.
    #[serde(default)]
    pub release: Option<String>,
    /// Refuse if the first package has the same version in this release: then there is nothing to update.
    #[serde(default)]
    pub newer_than: Option<String>,
    /// For applications: the dpkg status file of the OS image they go into.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub os_status: Option<Utf8PathBuf>,
    /// For applications: the recipe of that OS image, instead of `os-status`; built if need be.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub os_recipe: Option<Utf8PathBuf>,
}

/// Content ready to be captured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PreparedContent {
    /// A folder, for `content::capture_tree`.
    Tree(Utf8PathBuf),
    /// A filesystem image, for `content::capture_image`.
    Image(Utf8PathBuf),
}

/// A package that lacks nothing but its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Its content.
    pub content: PreparedContent,
    /// What will be published; `manifest`, `manifest_bytes` and `content_bytes` are zero: whoever captures the content
    /// fills them in.
    pub package: Package,
}

/// Reads a definition.
///
/// # Errors
/// Says what is wrong with it, with line and column.
pub fn load_definition(path: &Utf8Path) -> Result<PackageDefinition, MediaError> {
    parse_definition(&tree::read_text(path, "package definition")?, path)
}

/// Reads the text of a definition; `path` is for the complaint.
///
/// # Errors
/// Says what is wrong with it, with line and column.
pub fn parse_definition(text: &str, path: &Utf8Path) -> Result<PackageDefinition, MediaError> {
    let definition: PackageDefinition = yaml::parse(text, path, "package definition")?;
    match mistake(&definition) {
        None => Ok(definition),
        Some(reason) => Err(MediaError::Document {
            path: path.into(),
            what: "package definition",
            reason: reason.into(),
        }),
    }
}

/// What the fields say together that cannot be.
fn mistake(definition: &PackageDefinition) -> Option<&'static str> {
    use PackageKind::{Application, BootImage, Driver, Files, OsImage};
    let kind = definition.kind;
    match &definition.source {
        Source::Image(_) | Source::Disk(_) | Source::Wim(_) | Source::OsRecipe(_)
            if kind != OsImage =>
        {
            return Some("source: a filesystem image is only for kind os-image");
        }
        Source::Tree(_) | Source::Tar(_) if kind == OsImage => {
            return Some("source: an os-image is no tree");
        }
        Source::Debian(_) if matches!(kind, OsImage | BootImage) => {
            return Some("source: debian is for kinds application, driver and files");
        }
        Source::Debian(debian) if debian.packages.is_empty() => {
            return Some("source: debian: packages is empty");
        }
        Source::Debian(debian) => {
            let systems =
                usize::from(debian.os_status.is_some()) + usize::from(debian.os_recipe.is_some());
            if kind == Application && systems != 1 {
                return Some(
                    "source: debian: an application needs os-status or os-recipe: what the OS already has",
                );
            }
            if debian.newer_than.is_some() && debian.release.is_none() {
                return Some("source: debian: newer-than needs release");
            }
        }
        Source::Image(_)
        | Source::Disk(_)
        | Source::Wim(_)
        | Source::Tree(_)
        | Source::Tar(_)
        | Source::OsRecipe(_) => {}
    }
    match kind {
        Driver if definition.models.is_empty() => {
            return Some("models: a driver needs the models it is for");
        }
        Driver
            if definition
                .models
                .iter()
                .any(|model| *model == ModelRule::default()) =>
        {
            return Some("models: a rule without any field matches nothing");
        }
        OsImage | BootImage | Application | Files if !definition.models.is_empty() => {
            return Some("models: only drivers have models");
        }
        _ => {}
    }
    let is_tree = matches!(definition.source, Source::Tree(_) | Source::Tar(_));
    let is_tree_application = kind == Application && is_tree;
    if is_tree_application && definition.install.is_none() {
        return Some("install: an application from a tree needs a command");
    }
    if kind != Application && definition.install.is_some() {
        return Some("install: only applications are installed");
    }
    None
}

/// Makes the content of a package ready below `cache`, where it stays for the next time. Paths in the definition start
/// at `base_folder`.
///
/// # Errors
/// If content can't be read or fetched, or the definition asks for what isn't there.
pub fn prepare_package(
    definition: &PackageDefinition,
    base_folder: &Utf8Path,
    cache: &Utf8Path,
    progress: &dyn Progress,
) -> Result<Prepared, MediaError> {
    if let Some(reason) = mistake(definition) {
        return Err(MediaError::Document {
            path: definition.name.as_str().into(),
            what: "package definition",
            reason: reason.into(),
        });
    }
    let (content, version, install) = match &definition.source {
        Source::Image(path) => {
            let path = base_folder.join(path);
            let version = fingerprint(&path)?;
            (PreparedContent::Image(path), version, None)
        }
        Source::Disk(source) => {
            let disk = base_folder.join(&source.file);
            let print = fingerprint(&disk)?;
            let image = disk_image::partition_image(source, &disk, &print, cache, progress)?;
            (PreparedContent::Image(image), print, None)
        }
        Source::Wim(source) => {
            let archive = base_folder.join(&source.file);
            let print = fingerprint(&archive)?;
            let image = windows_image::volume_image(source, &archive, &print, cache, progress)?;
            (PreparedContent::Image(image), print, None)
        }
        Source::Tar(path) => {
            let archive = base_folder.join(path);
            let print = fingerprint(&archive)?;
            let folder = unpacked_tar(&archive, &print, cache, progress)?;
            (PreparedContent::Tree(folder), print, None)
        }
        Source::OsRecipe(path) => {
            let recipe = os_image::load_recipe(&base_folder.join(path))?;
            let path = os_image::cached_os_image(&recipe, cache, progress)?;
            let version = fingerprint(&os_image::status_path(&path))?;
            (
                PreparedContent::Image(path),
                format!("{}-{version}", recipe.suite),
                None,
            )
        }
        Source::Tree(path) => {
            let path = base_folder.join(path);
            let version = tree_fingerprint(&path)?;
            (PreparedContent::Tree(path), version, None)
        }
        Source::Debian(source) if definition.kind == PackageKind::Application => {
            let (folder, version, install) =
                prepare_application(source, base_folder, cache, progress)?;
            (PreparedContent::Tree(folder), version, Some(install))
        }
        Source::Debian(source) => {
            let (folder, version) = prepare_files(source, cache, progress)?;
            (PreparedContent::Tree(folder), version, None)
        }
    };
    let version = match &definition.version {
        Some(version) => version.clone(),
        None => PackageVersion::new(version).map_err(|error| {
            MediaError::refused(
                format!("the content's version does not serve: {error}"),
                "set version in the definition",
            )
        })?,
    };
    let volume_bytes_min = match &content {
        PreparedContent::Image(path) => {
            disk_image::check_filesystem(path)?;
            fs::metadata(path).map_err(MediaError::read(path))?.len()
        }
        PreparedContent::Tree(_) => 0,
    };
    let package = Package {
        name: definition.name.clone(),
        version,
        kind: definition.kind,
        title: definition.title.clone(),
        manifest: Digest::from_bytes([0; Digest::BYTES]),
        manifest_bytes: 0,
        content_bytes: 0,
        models: definition.models.clone(),
        install: definition.install.clone().or(install),
        volume_bytes_min,
    };
    Ok(Prepared { content, package })
}

/// Everything the OS lacks of some Debian packages, repacked, and how to install it.
fn prepare_application(
    source: &DebianSource,
    base_folder: &Utf8Path,
    cache: &Utf8Path,
    progress: &dyn Progress,
) -> Result<(Utf8PathBuf, String, Install), MediaError> {
    let status = match (&source.os_status, &source.os_recipe) {
        (Some(path), _) => base_folder.join(path),
        (None, Some(path)) => {
            let recipe = os_image::load_recipe(&base_folder.join(path))?;
            os_image::status_path(&os_image::cached_os_image(&recipe, cache, progress)?)
        }
        (None, None) => {
            return Err(MediaError::refused(
                "no OS is named",
                "set os-status or os-recipe",
            ));
        }
    };
    // apt runs in folders of its own.
    let status = status
        .canonicalize_utf8()
        .map_err(MediaError::read(&status))?;
    let (main, version) = main_package(source)?;
    progress.phase(&format!("finding out what {main} {version} needs"));
    let closure = debian::closure(Some(&status), &source.packages, source.release.as_deref())?;
    if !closure.iter().any(|deb| deb.name == main) {
        return Err(MediaError::refused(
            format!("the OS image already has {main} {version}, or a newer one"),
            "deploy without this package",
        ));
    }
    progress.phase(&format!(
        "downloading {} packages for {main}",
        closure.len()
    ));
    let debs = debian::download(&closure, cache)?;
    let folder = cached_folder(cache, "applications", &main, &closure)?;
    let names: Vec<String> = debs
        .iter()
        .filter_map(|deb| deb.file_name())
        .map(str::to_owned)
        .collect();
    fill(&folder, |folder| {
        for (deb, name) in debs.iter().zip(&names) {
            progress.phase(&format!("unpacking {name}"));
            deb::repack(deb, &folder.join(name))?;
        }
        Ok(())
    })?;
    let detect = Detect::Command {
        command: texts(&[
            "dpkg-query",
            "--show",
            "--showformat=${Status} ${Version}",
            &main,
        ]),
        stdout: format!("install ok installed {version}"),
    };
    let mut command = texts(&["dpkg", "--force-unsafe-io", "--force-confdef", "--install"]);
    command.extend(names);
    let install = Install {
        command,
        success_exit_codes: vec![0],
        restart_exit_codes: vec![],
        detect: Some(detect),
    };
    Ok((folder, version, install))
}

/// The files of some Debian packages (without what they depend on), as they lie in an installed system.
fn prepare_files(
    source: &DebianSource,
    cache: &Utf8Path,
    progress: &dyn Progress,
) -> Result<(Utf8PathBuf, String), MediaError> {
    let (main, version) = main_package(source)?;
    let packages: Vec<DebPackage> = source
        .packages
        .iter()
        .map(|package| {
            let name = package.split('=').next().unwrap_or(package).to_owned();
            Ok(DebPackage {
                version: debian::version_in(package, release_for(source, package))?,
                name,
            })
        })
        .collect::<Result<_, MediaError>>()?;
    progress.phase(&format!("downloading {main} {version}"));
    let debs = debian::download(&packages, cache)?;
    let folder = cached_folder(cache, "files", &main, &packages)?;
    fill(&folder, |folder| {
        debian::extract(&debs, folder)?;
        merge_usr(folder)
    })?;
    Ok((folder, version))
}

/// The files of a tar archive. Their owners are kept if we may give files away, which root may.
fn unpacked_tar(
    archive: &Utf8Path,
    fingerprint: &str,
    cache: &Utf8Path,
    progress: &dyn Progress,
) -> Result<Utf8PathBuf, MediaError> {
    let parent = cache.join("archives");
    tree::make_folder(&parent)?;
    let name = archive.file_name().unwrap_or("archive");
    let folder = parent.join(format!("{name}-{fingerprint}"));
    fill(&folder, |folder| {
        progress.phase(&format!("unpacking {archive}"));
        let kept = [
            "--numeric-owner",
            "--same-permissions",
            "--acls",
            "--xattrs",
            "--xattrs-include=*",
        ];
        let program = Program::new("tar").args(kept);
        let program = program.args(["--extract", "--force-local", "--file", archive.as_str()]);
        let unpacked = program.args(["--directory", folder.as_str()]).run();
        unpacked
            .map(drop)
            .map_err(MediaError::command(format!("unpack {archive}")))
    })?;
    Ok(folder)
}

/// Name and version of the first package.
fn main_package(source: &DebianSource) -> Result<(String, String), MediaError> {
    let main = source
        .packages
        .first()
        .map(String::as_str)
        .unwrap_or_default();
    let name = main.split('=').next().unwrap_or(main).to_owned();
    let version = debian::version_in(main, release_for(source, main))?;
    if let Some(older) = &source.newer_than {
        let old = debian::version_in(&name, Some(older))?;
        if old == version {
            let newer = source.release.as_deref().unwrap_or("the release asked for");
            return Err(MediaError::refused(
                format!(
                    "{name} has the same version {version} in {older} and in {newer}: there is no update"
                ),
                "choose another package for the update, or pin an older version with name=version",
            ));
        }
    }
    Ok((name, version))
}

/// A version that is written down needs no release.
fn release_for<'a>(source: &'a DebianSource, package: &str) -> Option<&'a str> {
    source.release.as_deref().filter(|_| !package.contains('='))
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// A folder whose name says what is in it.
fn cached_folder(
    cache: &Utf8Path,
    what: &str,
    main: &str,
    packages: &[DebPackage],
) -> Result<Utf8PathBuf, MediaError> {
    let list: Vec<String> = packages
        .iter()
        .map(|deb| format!("{}={}", deb.name, deb.version))
        .collect();
    let folder = cache.join(what);
    tree::make_folder(&folder)?;
    Ok(folder.join(format!(
        "{main}-{}",
        Digest::of(list.join("\n").as_bytes()).short()
    )))
}

/// Makes `folder` by `make`, all at once, unless it is there already.
fn fill(
    folder: &Utf8Path,
    make: impl FnOnce(&Utf8Path) -> Result<(), MediaError>,
) -> Result<(), MediaError> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Utf8Path::new("."));
    let (_scratch, scratch) = tree::scratch(parent)?;
    let inside = scratch.join("content");
    tree::make_folder(&inside)?;
    make(&inside)?;
    fs::rename(&inside, folder).map_err(MediaError::write(folder))
}

/// Moves `/lib` and its like below `/usr`, and leaves out what no device needs.
fn merge_usr(folder: &Utf8Path) -> Result<(), MediaError> {
    for name in MERGED_FOLDERS {
        let from = folder.join(name);
        if from.is_dir() {
            move_into(&from, &folder.join("usr").join(name))?;
        }
    }
    for path in DRIVER_LEFT_OUT {
        let path = folder.join(path);
        if path.is_dir() {
            fs::remove_dir_all(&path).map_err(MediaError::write(&path))?;
        }
    }
    Ok(())
}

/// Moves everything in `from` into `to`, merging folders.
fn move_into(from: &Utf8Path, to: &Utf8Path) -> Result<(), MediaError> {
    tree::make_folder(to)?;
    for entry in from.read_dir_utf8().map_err(MediaError::read(from))? {
        let entry = entry.map_err(MediaError::read(from))?;
        let target = to.join(entry.file_name());
        let is_folder = entry
            .file_type()
            .map_err(MediaError::read(entry.path()))?
            .is_dir();
        if is_folder && target.is_dir() {
            move_into(entry.path(), &target)?;
        } else {
            fs::rename(entry.path(), &target).map_err(MediaError::write(&target))?;
        }
    }
    fs::remove_dir(from).map_err(MediaError::write(from))
}

/// Twelve digits of a digest of a file.
fn fingerprint(path: &Utf8Path) -> Result<String, MediaError> {
    let mut hasher = blake3::Hasher::new();
    let file = fs::File::open(path).map_err(MediaError::read(path))?;
    hasher.update_reader(file).map_err(MediaError::read(path))?;
    Ok(Digest::from_bytes(*hasher.finalize().as_bytes()).to_string()[..12].to_owned())
}

/// Twelve digits of a digest of all files of a folder and their names.
fn tree_fingerprint(folder: &Utf8Path) -> Result<String, MediaError> {
    let mut text = String::new();
    for path in tree::files(folder)? {
        let name = path.strip_prefix(folder).unwrap_or(&path);
        text.push_str(&format!("{} {}\n", fingerprint(&path)?, name));
    }
    Ok(Digest::of(text.as_bytes()).to_string()[..12].to_owned())
}

#[cfg(test)]
mod tests;
