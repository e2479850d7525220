//! Debian's archive through the host's own `apt`, which knows the mirrors, checks signatures and digests, and keeps
//! what it has fetched.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};

use crate::command::{CommandError, Program};
use crate::error::MediaError;
use crate::tree;

/// Lists of mirrors have a few kB.
const SOURCES_BYTES_MAX: u64 = 1 << 20;
/// A desktop has two thousand packages.
const CLOSURE_MAX: usize = 5000;

/// A package at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DebPackage {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl DebPackage {
    fn pinned(&self) -> String {
        format!("{}={}", self.name, self.version)
    }
}

/// Checks what a person wrote as a package: `name`, `name=version` or `name:amd64`.
pub(crate) fn check_package(text: &str) -> Result<(), MediaError> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.:=~_".contains(&byte);
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if starts_well && text.bytes().all(good) {
        return Ok(());
    }
    Err(MediaError::refused(
        format!("{text:?} is not the name of a Debian package"),
        "write name or name=version",
    ))
}

/// Checks the name of a release such as `bookworm-security`.
pub(crate) fn check_release(text: &str) -> Result<(), MediaError> {
    let starts_well = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase());
    if starts_well
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    {
        return Ok(());
    }
    Err(MediaError::refused(
        format!("{text:?} is not the name of a release"),
        "write one such as bookworm-security",
    ))
}

fn apt(program: &str) -> Program {
    // Locks are for changes to this system; we make none. Fetching as the calling user works in any folder.
    Program::new(program).args([
        "-q",
        "-o",
        "APT::Sandbox::User=root",
        "-o",
        "Debug::NoLocking=1",
    ])
}

/// The package a meta package such as `linux-image-amd64` stands for, at the version it wants.
pub(crate) fn kernel_of(meta: &str) -> Result<DebPackage, MediaError> {
    check_package(meta)?;
    let shown = apt("apt-cache")
        .args(["show", "--no-all-versions", meta])
        .run()
        .map_err(|error| not_found(meta, error))?;
    parse_kernel(&shown).ok_or_else(|| {
        MediaError::refused(
            format!("package {meta} has no kernel"),
            "name one such as linux-image-amd64",
        )
    })
}

fn parse_kernel(shown: &str) -> Option<DebPackage> {
    let field = |name: &str| {
        shown
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let name = field("Package")?;
    if name
        .strip_prefix("linux-image-")
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    {
        return Some(DebPackage {
            name: name.into(),
            version: field("Version")?.into(),
        });
    }
    field("Depends")?.split(", ").find_map(|depends| {
        let (name, version) = depends.split_once(" (= ")?;
        let version = version.strip_suffix(')')?;
        name.starts_with("linux-image-").then(|| DebPackage {
            name: name.into(),
            version: version.into(),
        })
    })
}

/// The version of `package` that would be installed: of `release` if given.
pub(crate) fn version_in(package: &str, release: Option<&str>) -> Result<String, MediaError> {
    let name = package.split('=').next().unwrap_or(package);
    let closure = closure(None, &[package.to_owned()], release)?;
    let found = closure.into_iter().find(|deb| deb.name == name);
    found.map(|deb| deb.version).ok_or_else(|| {
        MediaError::refused(
            format!("there is no Debian package {package}"),
            "look for it with apt-cache search",
        )
    })
}

/// Which packages installing `packages` would install beyond those in the dpkg status file `status` (none: an empty
/// system), in the order in which `dpkg` can unpack them.
pub(crate) fn closure(
    status: Option<&Utf8Path>,
    packages: &[String],
    release: Option<&str>,
) -> Result<Vec<DebPackage>, MediaError> {
    packages
        .iter()
        .try_for_each(|package| check_package(package))?;
    let status = status.unwrap_or(Utf8Path::new("/dev/null"));
    let mut program = apt("apt-get")
        .args(["install", "--simulate", "-y", "--no-install-recommends"])
        .args([
            "-o",
            &format!("Dir::State::status={status}"),
            // What is installed here by hand or automatically says nothing about another system.
            "-o",
            "Dir::State::extended_states=/dev/null",
            // The host's package cache describes the host.
            "-o",
            "Dir::Cache::pkgcache=",
            "-o",
            "Dir::Cache::srcpkgcache=",
        ]);
    let mut names = packages.to_vec();
    if let Some(release) = release {
        check_release(release)?;
        names
            .iter_mut()
            .filter(|name| !name.contains('='))
            .for_each(|name| *name = format!("{name}/{release}"));
    }
    program = program.args(&names);
    let simulated = program
        .run()
        .map_err(|error| not_found(&packages.join(" "), error))?;
    parse_simulation(&simulated)
}

fn parse_simulation(text: &str) -> Result<Vec<DebPackage>, MediaError> {
    let mut closure = Vec::new();
    for line in text.lines() {
        if line.starts_with("Remv ") {
            return Err(MediaError::refused(
                format!("installing would remove something: {line}"),
                "choose versions that go together with the OS image",
            ));
        }
        let Some(rest) = line.strip_prefix("Inst ") else {
            continue;
        };
        let name = rest.split([' ', ':']).next().unwrap_or_default();
        let version = rest
            .split_once('(')
            .and_then(|(_, inside)| inside.split([' ', ')']).next())
            .unwrap_or_default();
        if name.is_empty() || version.is_empty() || closure.len() == CLOSURE_MAX {
            return Err(MediaError::refused(
                format!("apt said {line:?}"),
                "this is not understood; please report it",
            ));
        }
        closure.push(DebPackage {
            name: name.into(),
            version: version.into(),
        });
    }
    Ok(closure)
}

fn not_found(packages: &str, source: CommandError) -> MediaError {
    let missing = [
        "Unable to locate",
        "was not found",
        "No packages found",
        "Unable to correct",
    ];
    if let CommandError::Failed { said, .. } = &source
        && missing.iter().any(|text| said.contains(text))
    {
        let said = said
            .lines()
            .filter(|line| line.starts_with("E:"))
            .collect::<Vec<_>>()
            .join("; ");
        return MediaError::refused(
            format!("Debian's archive has no {packages} as asked for: {said}"),
            "run apt-get update as root, and check the name, version and release",
        );
    }
    MediaError::command(format!("ask apt for {packages}"))(source)
}

/// Downloads packages into `cache/debs` (nothing is fetched twice) and returns the files, in the same order.
pub(crate) fn download(
    packages: &[DebPackage],
    cache: &Utf8Path,
) -> Result<Vec<Utf8PathBuf>, MediaError> {
    let folder = cache.join("debs");
    tree::make_folder(&folder)?;
    if packages.is_empty() {
        return Ok(Vec::new());
    }
    let what = format!(
        "download {} Debian packages, from {}",
        packages.len(),
        packages[0].name
    );
    let pinned = packages.iter().map(DebPackage::pinned);
    apt("apt-get")
        .arg("download")
        .args(pinned)
        .folder(&folder)
        .run()
        .map_err(MediaError::command(what))?;
    packages
        .iter()
        .map(|package| {
            let start = format!("{}_{}_", package.name, package.version.replace(':', "%3a"));
            let path = ["amd64", "all"]
                .map(|end| folder.join(format!("{start}{end}.deb")))
                .into_iter()
                .find(|p| p.is_file());
            path.ok_or_else(|| {
                MediaError::unusable(
                    &folder,
                    "cache",
                    format!("{} is not in it", package.pinned()),
                )
            })
        })
        .collect()
}

/// Unpacks the files of packages into `folder`, one over the other.
pub(crate) fn extract(debs: &[Utf8PathBuf], folder: &Utf8Path) -> Result<(), MediaError> {
    tree::make_folder(folder)?;
    for deb in debs {
        let program = Program::new("dpkg-deb").args(["--extract", deb.as_str(), folder.as_str()]);
        program
            .run()
            .map_err(MediaError::command(format!("unpack {deb}")))?;
    }
    Ok(())
}

/// The host's mirrors of a Debian release and its updates, as lines of a `sources.list`. Third parties are left out.
pub(crate) fn host_sources(suite: &str, component: &str) -> Result<Vec<String>, MediaError> {
    check_release(suite)?;
    let suites: BTreeSet<String> = ["", "-updates", "-security"]
        .iter()
        .map(|end| format!("{suite}{end}"))
        .collect();
    let mut lines = Vec::new();
    let list = Utf8Path::new("/etc/apt/sources.list");
    if list.is_file() {
        lines.extend(one_line_sources(&sources_text(list)?, &suites, component));
    }
    let folder = Utf8Path::new("/etc/apt/sources.list.d");
    let mut paths = if folder.is_dir() {
        tree::files(folder)?
    } else {
        Vec::new()
    };
    paths.sort();
    for path in paths {
        match path.extension() {
            Some("list") => {
                lines.extend(one_line_sources(&sources_text(&path)?, &suites, component))
            }
            Some("sources") => {
                lines.extend(stanza_sources(&sources_text(&path)?, &suites, component))
            }
            _ => {}
        }
    }
    let base = format!(" {suite} ");
    if lines.iter().any(|line| line.contains(&base)) {
        return Ok(lines);
    }
    Err(MediaError::refused(
        format!("this machine's apt knows no mirror of Debian {suite}"),
        format!("build on Debian {suite}, or add its mirror to /etc/apt/sources.list"),
    ))
}

fn sources_text(path: &Utf8Path) -> Result<String, MediaError> {
    Ok(String::from_utf8_lossy(&tree::read(path, SOURCES_BYTES_MAX)?).into_owned())
}

fn one_line_sources(text: &str, suites: &BTreeSet<String>, component: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let rest = line.trim().strip_prefix("deb ")?.trim_start();
            let (options, rest) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => ("", rest),
            };
            let mut words = rest.split_ascii_whitespace();
            let (uri, suite) = (words.next()?, words.next()?);
            let key = options
                .split_ascii_whitespace()
                .find_map(|option| option.strip_prefix("signed-by="));
            (suites.contains(suite) && words.any(|word| word == component))
                .then(|| line_of(key, uri, suite, component))
        })
        .collect()
}

fn stanza_sources(text: &str, suites: &BTreeSet<String>, component: &str) -> Vec<String> {
    let text: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut lines = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |name: &str| {
            let value = stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            });
            value.unwrap_or_default()
        };
        let words = |name: &str| field(name).split_ascii_whitespace();
        if field("Enabled").eq_ignore_ascii_case("no")
            || !words("Types").any(|kind| kind == "deb")
            || !words("Components").any(|word| word == component)
        {
            continue;
        }
        let key = Some(field("Signed-By")).filter(|key| key.starts_with('/'));
        for uri in words("URIs") {
            lines.extend(
                words("Suites")
                    .filter(|s| suites.contains(*s))
                    .map(|s| line_of(key, uri, s, component)),
            );
        }
    }
    lines
}

fn line_of(key: Option<&str>, uri: &str, suite: &str, component: &str) -> String {
    match key {
        Some(key) => format!("deb [signed-by={key}] {uri} {suite} {component}"),
        None => format!("deb {uri} {suite} {component}"),
    }
}

/// Whether the host accepts package lists past their date, as with an archive of old states; the same then goes for us.
pub(crate) fn accepts_old_lists() -> Result<bool, MediaError> {
    let dumped = Program::new("apt-config")
        .args(["dump", "Acquire::Check-Valid-Until"])
        .run();
    Ok(dumped
        .map_err(MediaError::command("read apt's settings"))?
        .contains("\"false\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_package_is_resolved() {
        let shown = "Package: linux-image-amd64\nVersion: 6.1.192-2\n\
                     Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)\n";
        let kernel = DebPackage {
            name: "linux-image-6.1.0-56-amd64".into(),
            version: "6.1.192-2".into(),
        };
        assert_eq!(parse_kernel(shown), Some(kernel.clone()));
        let shown = "Package: linux-image-6.1.0-56-amd64\nVersion: 6.1.192-2\nDepends: kmod, linux-base (>= 4.3~)\n";
        assert_eq!(parse_kernel(shown), Some(kernel));
        assert_eq!(
            parse_kernel("Package: vim\nVersion: 1\nDepends: libc6 (= 2)\n"),
            None
        );
    }

    #[test]
    fn a_simulation_is_read() {
        let text = "NOTE: only a simulation\nInst libx (1:2-3 Debian:12/x [amd64]) []\n\
                    Inst vim:amd64 [1] (2 Debian [all])\nConf libx (1:2-3)\n";
        let closure = parse_simulation(text).expect("it reads");
        let pinned: Vec<String> = closure.iter().map(DebPackage::pinned).collect();
        assert_eq!(pinned, ["libx=1:2-3", "vim=2"]);
        assert!(parse_simulation("Remv libc6 [2.36]\n").is_err());
    }

    #[test]
    fn only_mirrors_of_the_release_are_taken() {
        let suites = ["bookworm", "bookworm-security"].map(str::to_owned).into();
        let list = "# deb http://a bookworm main\n\
                    deb [arch=amd64 signed-by=/k.gpg] http://b/debian bookworm main contrib\n\
                    deb http://c cloud-bookworm main\ndeb-src http://b bookworm main\n";
        assert_eq!(
            one_line_sources(list, &suites, "main"),
            ["deb [signed-by=/k.gpg] http://b/debian bookworm main"]
        );
        let stanzas = "Types: deb\n# an old state\n\
                       URIs: http://d/debian\nSuites: bookworm bookworm-updates bookworm-security\n\
                       Components: main\nSigned-By: /k.gpg\n\n\
                       Types: deb\nURIs: http://e\nSuites: nodistro\nComponents: main\n\n\
                       Enabled: no\nTypes: deb\nURIs: http://f\nSuites: bookworm\nComponents: main\n";
        assert_eq!(
            stanza_sources(stanzas, &suites, "main"),
            [
                "deb [signed-by=/k.gpg] http://d/debian bookworm main",
                "deb [signed-by=/k.gpg] http://d/debian bookworm-security main"
            ]
        );
    }

    #[test]
    fn names_are_checked_before_apt_sees_them() {
        assert!(check_package("openjdk-17-jre=17.0.21.1+2-1~deb12u1").is_ok());
        for bad in ["", "-o", "a b", "a;b", "Dir::x", "/etc/x.deb", "a/b"] {
            assert!(check_package(bad).is_err(), "{bad}");
        }
        assert!(check_release("bookworm-security").is_ok());
        assert!(check_release("x -o y").is_err());
    }
}
