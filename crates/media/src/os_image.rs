//! OS images: Debian installed from packages into a filesystem image, as a recipe says.
//!
//! `mmdebstrap` installs, `mke2fs` makes the filesystem; both run as root or, without root, in a user namespace.
//! Identity (name, locale, users) is none of this module's business: a task sequence gives it to each machine.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use camino::{Utf8Path, Utf8PathBuf};
use uuid::Uuid;
use wire::digest::Digest;

use crate::command::Program;
use crate::debian;
use crate::error::MediaError;
use crate::progress::Progress;
use crate::{tree, yaml};

/// The first script, before the packages of the recipe are installed.
const BEFORE: &str = include_str!("os_image/before.sh");
/// The second script, after them: settles the system and makes the filesystem.
const AFTER: &str = include_str!("os_image/after.sh");
/// The largest status file of a desktop has 4 MB.
const STATUS_BYTES_MAX: u64 = 64 << 20;

/// What an OS image is made of.
#[derive(
    Debug, Clone, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OsImageRecipe {
    /// A short name for the image.
    pub name: String,
    /// The Debian release, such as `bookworm`; its updates and security updates come along.
    pub suite: String,
    /// Packages to install; what they depend on comes along, what they recommend does not.
    pub packages: Vec<String>,
    /// Patterns of paths that are never unpacked, as for dpkg's `path-exclude`.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Patterns of paths that are unpacked although excluded.
    #[serde(default)]
    pub include: Vec<String>,
    /// Paths to remove when everything is installed; `*` matches within a name.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Locales to generate, such as `nb_NO.UTF-8`; the first is the default.
    pub locales: Vec<String>,
    /// Kernel modules of the OS's own initrd.
    pub initrd_modules: Vec<String>,
    /// systemd units to enable.
    #[serde(default)]
    pub enable: Vec<String>,
    /// systemd units that must never start.
    #[serde(default)]
    pub mask: Vec<String>,
    /// The identity of the filesystem and the seed of its folder hashes, so that two builds are alike.
    #[schemars(with = "String")]
    pub filesystem_uuid: Uuid,
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OsImageSummary {
    /// The size of the image in bytes, holes included.
    pub image_bytes: u64,
    /// What it takes on the disk in bytes.
    pub used_bytes: u64,
    /// How many Debian packages are in it.
    pub debian_packages: usize,
    /// The dpkg status file of the installed system.
    pub status_path: Utf8PathBuf,
}

/// Reads a recipe.
///
/// # Errors
/// Says what is wrong with it, with line and column.
pub fn load_recipe(path: &Utf8Path) -> Result<OsImageRecipe, MediaError> {
    parse_recipe(&tree::read_text(path, "OS image recipe")?, path)
}

fn parse_recipe(text: &str, path: &Utf8Path) -> Result<OsImageRecipe, MediaError> {
    let recipe: OsImageRecipe = yaml::parse(text, path, "OS image recipe")?;
    let bad = |reason: String| MediaError::Document {
        path: path.into(),
        what: "OS image recipe",
        reason,
    };
    let word = |text: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+".contains(&byte);
        text.bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
            && text.bytes().all(good)
    };
    // These end up in scripts and settings; nothing in them may mean more than itself.
    let words = [
        &recipe.locales,
        &recipe.initrd_modules,
        &recipe.enable,
        &recipe.mask,
    ];
    if let Some(text) = words
        .into_iter()
        .flatten()
        .chain([&recipe.name])
        .find(|text| !word(text))
    {
        return Err(bad(format!("{text:?}: letters, digits and - _ . @ + only")));
    }
    let pattern = |text: &str| {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+/*".contains(&byte);
        text.starts_with('/') && text.len() > 4 && text.bytes().all(good) && !text.contains("..")
    };
    let patterns = [&recipe.exclude, &recipe.include, &recipe.remove];
    if let Some(text) = patterns.into_iter().flatten().find(|text| !pattern(text)) {
        return Err(bad(format!("{text:?} is not an absolute path or pattern")));
    }
    if recipe.locales.is_empty() || recipe.packages.is_empty() {
        return Err(bad("locales and packages must not be empty".into()));
    }
    debian::check_release(&recipe.suite).map_err(|error| bad(error.to_string()))?;
    for package in &recipe.packages {
        debian::check_package(package).map_err(|error| bad(error.to_string()))?;
    }
    Ok(recipe)
}

/// Where the dpkg status file of an OS image lies.
#[must_use]
pub fn status_path(image: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{image}.dpkg-status"))
}

/// The image of this recipe in `cache`, built if it isn't there yet. Removing it there makes it be built afresh.
///
/// # Errors
/// As [`build_os_image`].
pub fn cached_os_image(
    recipe: &OsImageRecipe,
    cache: &Utf8Path,
    progress: &dyn Progress,
) -> Result<Utf8PathBuf, MediaError> {
    let path = cached_path(recipe, cache)?;
    if !path.is_file() || !status_path(&path).is_file() {
        build_os_image(recipe, &path, cache, progress)?;
    }
    Ok(path)
}

fn cached_path(recipe: &OsImageRecipe, cache: &Utf8Path) -> Result<Utf8PathBuf, MediaError> {
    let recipe_bytes = serde_json::to_vec(recipe)
        .map_err(|error| MediaError::unusable(recipe.name.as_str(), "recipe", error.to_string()))?;
    let key = Digest::of(&[&recipe_bytes[..], BEFORE.as_bytes(), AFTER.as_bytes()].concat());
    Ok(cache
        .join("os-images")
        .join(format!("{}-{}.img", recipe.name, key.short())))
}

/// Builds the filesystem image `out`, with the OS's dpkg status file next to it as `<out>.dpkg-status`.
///
/// # Errors
/// If a package can't be fetched or installed, or the image can't be written.
pub fn build_os_image(
    recipe: &OsImageRecipe,
    out: &Utf8Path,
    cache: &Utf8Path,
    progress: &dyn Progress,
) -> Result<OsImageSummary, MediaError> {
    progress.phase(&format!(
        "installing {} from Debian's packages",
        recipe.name
    ));
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    // In a user namespace other users of the kernel's write here, and need a path they may follow.
    let temporary = Utf8PathBuf::from_path_buf(std::env::temp_dir()).map_err(|path| {
        MediaError::unusable("/tmp", "folder", format!("{} is not UTF-8", path.display()))
    })?;
    let (_scratch, scratch) = tree::scratch(if is_root { cache } else { &temporary })?;
    open_to_all(&scratch, if is_root { 0o755 } else { 0o777 })?;
    let scripts = [("before.sh", BEFORE), ("after.sh", AFTER)];
    for (name, text) in scripts {
        let path = scratch.join(name);
        tree::write(&path, text.as_bytes())?;
        open_to_all(&path, 0o755)?;
    }
    let work = scratch.join("work");
    tree::make_folder(&work)?;
    open_to_all(&work, 0o777)?;
    let mode = if is_root { "root" } else { "unshare" };
    let program = mmdebstrap(recipe, mode, &scratch, &work)?;
    program.run().map_err(MediaError::command(format!(
        "build the OS image {}",
        recipe.name
    )))?;

    progress.phase("keeping the image");
    let status = tree::read(&work.join("dpkg-status"), STATUS_BYTES_MAX)?;
    let debian_packages = String::from_utf8_lossy(&status)
        .lines()
        .filter(|line| *line == "Status: install ok installed")
        .count();
    tree::write(&status_path(out), &status)?;
    keep(&work.join("os.img"), out)?;
    let metadata = fs::metadata(out).map_err(MediaError::read(out))?;
    Ok(OsImageSummary {
        image_bytes: metadata.len(),
        used_bytes: metadata.blocks() * 512,
        debian_packages,
        status_path: status_path(out),
    })
}

fn mmdebstrap(
    recipe: &OsImageRecipe,
    mode: &str,
    scratch: &Utf8Path,
    work: &Utf8Path,
) -> Result<Program, MediaError> {
    let mut program = Program::new("mmdebstrap")
        .args([
            "--quiet",
            "--variant=minbase",
            "--format=null",
            // The tree is thrown away; what the image must not hold, our own script removes.
            "--skip=cleanup",
            "--aptopt=APT::Install-Recommends \"0\"",
        ])
        .arg(format!("--mode={mode}"))
        // The image is thrown away if the build fails: no need to sync every file.
        .arg("--dpkgopt=force-unsafe-io")
        .args(
            recipe
                .exclude
                .iter()
                .map(|pattern| format!("--dpkgopt=path-exclude={pattern}")),
        )
        .args(
            recipe
                .include
                .iter()
                .map(|pattern| format!("--dpkgopt=path-include={pattern}")),
        )
        .arg(format!("--include={}", recipe.packages.join(",")))
        .arg(format!("--essential-hook={}", scratch.join("before.sh")))
        .arg(format!("--customize-hook={}", scratch.join("after.sh")));
    if debian::accepts_old_lists()? {
        program = program.arg("--aptopt=Acquire::Check-Valid-Until \"false\"");
    }
    let epoch = "1700000000";
    Ok(program
        .args([recipe.suite.as_str(), "/dev/null"])
        .args(debian::host_sources(&recipe.suite, "main")?)
        .env("FORESTAGE_WORK", work.as_str())
        .env("FORESTAGE_LOCALES", recipe.locales.join(" "))
        .env("FORESTAGE_INITRD_MODULES", recipe.initrd_modules.join(" "))
        .env("FORESTAGE_ENABLE", recipe.enable.join(" "))
        .env("FORESTAGE_MASK", recipe.mask.join(" "))
        .env("FORESTAGE_REMOVE", recipe.remove.join(" "))
        .env("FORESTAGE_UUID", recipe.filesystem_uuid.to_string())
        .env("SOURCE_DATE_EPOCH", epoch)
        .env("E2FSPROGS_FAKE_TIME", epoch))
}

fn open_to_all(path: &Utf8Path, mode: u32) -> Result<(), MediaError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(MediaError::write(path))
}

/// Moves the image to where it is wanted, copying (holes stay holes) if that is another filesystem.
fn keep(from: &Utf8Path, to: &Utf8Path) -> Result<(), MediaError> {
    let folder = to
        .parent()
        .filter(|folder| !folder.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    tree::make_folder(folder)?;
    let aside = Utf8PathBuf::from(format!("{to}.part"));
    if fs::rename(from, &aside).is_err() {
        let program = Program::new("cp").args(["--sparse=always", from.as_str(), aside.as_str()]);
        program
            .run()
            .map_err(MediaError::command(format!("copy the image to {to}")))?;
    }
    let failed = MediaError::write(to);
    (|| {
        File::open(&aside)?.sync_all()?;
        fs::rename(&aside, to)?;
        File::open(folder)?.sync_all()
    })()
    .map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> String {
        let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples/os-images/debian-12-laptop.yaml");
        fs::read_to_string(path).expect("the example")
    }

    #[test]
    fn the_example_is_a_recipe() {
        let recipe = parse_recipe(&example(), Utf8Path::new("r.yaml")).expect("it parses");
        assert_eq!(recipe.suite, "bookworm");
        assert_eq!(recipe.locales[0], "nb_NO.UTF-8");
    }

    #[test]
    fn nothing_in_a_recipe_reaches_a_shell() {
        for (from, to) in [
            ("nb_NO.UTF-8", "\"$(id)\""),
            ("name: debian-12-laptop", "name: ../x"),
            ("suite: bookworm", "suite: -x"),
            ("  - sudo", "  - --include=x"),
            ("/usr/share/man/*", "\"/usr/share/;id\""),
            ("remove:", "remove:\n  - /usr/../etc/x"),
            ("remove:", "removes:"),
        ] {
            let text = example();
            assert!(text.contains(from), "{from}");
            assert!(
                parse_recipe(&text.replacen(from, to, 1), Utf8Path::new("r.yaml")).is_err(),
                "{to}"
            );
        }
    }

    #[test]
    fn another_recipe_is_another_image() {
        let recipe = parse_recipe(&example(), Utf8Path::new("r.yaml")).expect("it parses");
        let other = OsImageRecipe {
            packages: vec!["vim".into()],
            ..recipe.clone()
        };
        let path = |recipe: &OsImageRecipe| cached_path(recipe, Utf8Path::new("/c")).expect("path");
        assert_eq!(path(&recipe), path(&recipe.clone()));
        assert_ne!(path(&recipe), path(&other));
    }
}
