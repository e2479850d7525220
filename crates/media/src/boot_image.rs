//! Boot images: the small Linux that starts first. See `docs/formats/boot-image.md`.
//!
//! A kernel and its modules, a few programs with their libraries, the agent as `/init`: put together from Debian's
//! packages without root. The same input makes the same bytes.

use std::collections::BTreeMap;
use std::io::Read as _;

use camino::{Utf8Path, Utf8PathBuf};
use wire::boot_config::{BootMode, MODE_PARAMETER, TRUST_PATH, Trust};
use wire::digest::Digest;

use crate::cpio::{self, Archive, CpioError};
use crate::debian::{self, DebPackage};
use crate::error::MediaError;
use crate::modinfo::Kernel;
use crate::progress::Progress;
use crate::secure_boot::ImageSigner;
use crate::tree;
use crate::uki::{self, UkiParts, build_uki};
use crate::{elf, yaml};

/// The file that starts a staging.
pub const STAGE_FILE: &str = "stage.efi";
/// The file that starts a deployment.
pub const DEPLOY_FILE: &str = "deploy.efi";
/// The boot manager.
pub const LOADER_FILE: &str = "loader.efi";

/// Quiet, no blinking cursor, and a machine that panics starts over instead of standing there.
const COMMAND_LINE_BASE: &str = "quiet loglevel=3 vt.global_cursor_default=0 console=tty0 panic=30";
/// How the parts are put together; another way makes other bytes of the same parts, and must make another version.
const FORM: &[u8] = b"2";
/// An agent has a few MiB.
const AGENT_BYTES_MAX: u64 = 128 << 20;
/// An initrd, unpacked: ten times what is usual.
const INITRD_BYTES_MAX: u64 = 1 << 30;
/// A kernel, a stub, a font.
const PART_BYTES_MAX: u64 = 128 << 20;

/// Storage, network, filesystem: what a PC of these years needs to be staged and to reach the server.
const MODULES: &[&str] = &[
    // storage
    "nvme",
    "vmd",
    "ahci",
    "sd_mod",
    "usb_storage",
    "uas",
    "mmc_block",
    "sdhci_pci",
    "sdhci_acpi",
    "ufshcd_pci",
    "virtio_blk",
    "virtio_scsi",
    // buses
    "xhci_pci",
    "ehci_pci",
    "virtio_pci",
    // power: whether the charger is plugged in, and how full the battery is
    "ac",
    "battery",
    // the TPM, where the device's key is; Debian's kernel has both built in
    "tpm_crb",
    "tpm_tis",
    // network
    "virtio_net",
    "e1000",
    "e1000e",
    "igb",
    "igc",
    "r8169",
    "realtek",
    "tg3",
    "broadcom",
    "atlantic",
    "alx",
    "r8152",
    "ax88179_178a",
    "asix",
    "cdc_ether",
    "cdc_ncm",
];
/// Asked for by name, not by a device: the staging partition's filesystem with its checksums, and the variables of
/// the firmware.
const MODULES_ALWAYS: &[&str] = &["crc32c_generic", "crc32c_intel", "ext4", "efivarfs"];
/// What the agent does not do itself.
const PROGRAMS: &[&str] = &["/sbin/mke2fs", "/sbin/e2fsck", "/sbin/resize2fs"];
const FONTS: [(&str, &str); 2] = [
    (
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
        "/usr/share/forestage/font.ttf",
    ),
    (
        "/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf",
        "/usr/share/forestage/font-bold.ttf",
    ),
];
const FOLDERS: &[&str] = &[
    "/dev", "/etc", "/mnt", "/proc", "/root", "/run", "/sys", "/tmp", "/var",
];

/// What a boot image is made of. Every field has a default that serves.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BootImageRecipe {
    /// The Debian package of the kernel; a meta package is resolved.
    pub kernel_package: String,
    /// Kernel modules that answer to devices, by name; what they need comes along.
    pub modules: Vec<String>,
    /// Kernel modules that are loaded in any case, in this order.
    pub modules_always: Vec<String>,
    /// Debian packages the programs come from.
    pub program_packages: Vec<String>,
    /// Programs, by absolute path; their libraries come along.
    pub programs: Vec<String>,
    /// Words added to the kernel command line.
    pub command_line_extra: String,
    /// The zstd level of the initrd: 3 is quick to build, 19 is small.
    pub compression_level: i32,
}

impl Default for BootImageRecipe {
    fn default() -> Self {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Self {
            kernel_package: "linux-image-amd64".into(),
            modules: texts(MODULES),
            modules_always: texts(MODULES_ALWAYS),
            program_packages: texts(&["e2fsprogs"]),
            programs: texts(PROGRAMS),
            command_line_extra: String::new(),
            compression_level: 3,
        }
    }
}

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BootImageSummary {
    /// A package version for this boot image: the kernel's release and a digest of everything in it.
    pub version: String,
    /// The kernel's release, such as `6.1.0-56-amd64`.
    pub kernel: String,
    /// The bytes of `stage.efi`.
    pub stage_bytes: u64,
    /// The bytes of `deploy.efi`.
    pub deploy_bytes: u64,
    /// The bytes of the packed initrd.
    pub initrd_bytes: u64,
    /// The bytes of the initrd before packing.
    pub initrd_unpacked_bytes: u64,
    /// How many kernel modules are in it.
    pub modules: usize,
    /// Who signed what firmware starts; none if it isn't signed.
    pub signed_by: Option<String>,
}

/// Reads a recipe.
///
/// # Errors
/// Says what is wrong with it, with line and column.
pub fn load_recipe(path: &Utf8Path) -> Result<BootImageRecipe, MediaError> {
    parse_recipe(&tree::read_text(path, "boot image recipe")?, path)
}

fn parse_recipe(text: &str, path: &Utf8Path) -> Result<BootImageRecipe, MediaError> {
    let recipe: BootImageRecipe = yaml::parse(text, path, "boot image recipe")?;
    let bad = |reason: &str| MediaError::Document {
        path: path.into(),
        what: "boot image recipe",
        reason: reason.into(),
    };
    if !(1..=22).contains(&recipe.compression_level) {
        return Err(bad("compression-level is 1 to 22"));
    }
    if recipe
        .command_line_extra
        .split_ascii_whitespace()
        .any(|word| word.starts_with(MODE_PARAMETER))
    {
        return Err(bad("command-line-extra must not set the mode"));
    }
    Ok(recipe)
}

/// Builds the tree of a boot image package in the folder `out`: `stage.efi`, `deploy.efi`, `loader.efi`.
///
/// `agent_binary` is the static agent, which becomes `/init`. Debian's packages are fetched into `cache`. With a `signer`,
/// all three files are signed for Secure Boot.
///
/// # Errors
/// If a package can't be fetched, lacks what the recipe names, the parts are too large for a kernel image, or can't be
/// signed.
pub fn build_boot_image(
    recipe: &BootImageRecipe,
    trust: &Trust,
    agent_binary: &Utf8Path,
    signer: Option<&ImageSigner>,
    cache: &Utf8Path,
    out: &Utf8Path,
    progress: &dyn Progress,
) -> Result<BootImageSummary, MediaError> {
    let agent = tree::read(agent_binary, AGENT_BYTES_MAX)?;
    if elf::parse_needs(&agent).is_ok_and(|needs| needs.interpreter.is_some()) {
        return Err(MediaError::refused(
            format!("{agent_binary} is not a static program"),
            "build the agent for the target x86_64-unknown-linux-musl",
        ));
    }
    let (_scratch, scratch) = tree::scratch(cache)?;
    let inputs = fetch(recipe, cache, &scratch, progress)?;
    assemble(recipe, trust, agent, inputs, signer, out, progress)
}

/// Whom a boot image trusts, read out of one of its unified kernel images.
///
/// # Errors
/// If it is no such image, or was built by something else.
pub fn trust_in(image: &[u8]) -> Result<Trust, NoTrust> {
    let sections = uki::parse_uki(image).map_err(|_| NoTrust("it is no unified kernel image"))?;
    let initrd = sections.iter().find(|section| section.name == ".initrd");
    let initrd = initrd.ok_or(NoTrust("it has no initrd"))?.bytes;
    let mut archive = Vec::new();
    zstd::Decoder::new(initrd)
        .and_then(|unpacked| unpacked.take(INITRD_BYTES_MAX).read_to_end(&mut archive))
        .map_err(|_| NoTrust("its initrd can't be unpacked"))?;
    let file = cpio::file_in(&archive, TRUST_PATH).ok_or(NoTrust("its initrd names nobody"))?;
    serde_json::from_slice(file).map_err(|_| NoTrust("what its initrd says can't be read"))
}

/// Why nobody can tell whom a boot image trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoTrust(&'static str);

/// Puts a boot image together from unpacked packages.
fn assemble(
    recipe: &BootImageRecipe,
    trust: &Trust,
    agent: Vec<u8>,
    inputs: Inputs,
    signer: Option<&ImageSigner>,
    out: &Utf8Path,
    progress: &dyn Progress,
) -> Result<BootImageSummary, MediaError> {
    progress.phase("putting the initrd together");
    let (archive, modules) = initrd(recipe, trust, agent, &inputs)?;
    let unpacked = archive.bytes();
    progress.phase("packing the initrd");
    let initrd = zstd::bulk::compress(&unpacked, recipe.compression_level)
        .map_err(|error| MediaError::unusable(out, "initrd", error.to_string()))?;
    let parts = Parts {
        kernel: inputs.release.clone(),
        linux: part(&inputs.kernel, &format!("/boot/vmlinuz-{}", inputs.release))?,
        stub: part(
            &inputs.systemd,
            "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        )?,
        loader: part(
            &inputs.systemd,
            "/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        )?,
        initrd,
        extra: recipe.command_line_extra.trim().to_owned(),
        signer,
    };
    progress.phase("writing the boot image");
    let (stage_bytes, deploy_bytes) = parts.write(out)?;
    Ok(BootImageSummary {
        version: parts.version(),
        kernel: inputs.release,
        stage_bytes,
        deploy_bytes,
        initrd_bytes: parts.initrd.len() as u64,
        initrd_unpacked_bytes: unpacked.len() as u64,
        modules,
        signed_by: signer.map(|signer| signer.subject().to_owned()),
    })
}

/// Unpacked Debian packages.
struct Inputs {
    release: String,
    kernel: Utf8PathBuf,
    programs: Utf8PathBuf,
    fonts: Utf8PathBuf,
    systemd: Utf8PathBuf,
}

fn fetch(
    recipe: &BootImageRecipe,
    cache: &Utf8Path,
    scratch: &Utf8Path,
    progress: &dyn Progress,
) -> Result<Inputs, MediaError> {
    progress.phase("asking Debian's archive for kernel and programs");
    let kernel = debian::kernel_of(&recipe.kernel_package)?;
    let release = kernel
        .name
        .trim_start_matches("linux-image-")
        .trim_end_matches("-unsigned")
        .to_owned();
    let programs = debian::closure(None, &recipe.program_packages, None)?;
    let single = |name: &str| -> Result<DebPackage, MediaError> {
        Ok(DebPackage {
            name: name.into(),
            version: debian::version_in(name, None)?,
        })
    };
    let inputs = Inputs {
        release,
        kernel: scratch.join("kernel"),
        programs: scratch.join("programs"),
        fonts: scratch.join("fonts"),
        systemd: scratch.join("systemd"),
    };
    progress.phase(&format!("downloading {}", kernel.name));
    let sets = [
        (vec![kernel], &inputs.kernel),
        (programs, &inputs.programs),
        (vec![single("fonts-dejavu-core")?], &inputs.fonts),
        (vec![single("systemd-boot-efi")?], &inputs.systemd),
    ];
    for (packages, folder) in sets {
        debian::extract(&debian::download(&packages, cache)?, folder)?;
    }
    Ok(inputs)
}

/// The initrd, and how many kernel modules are in it.
fn initrd(
    recipe: &BootImageRecipe,
    trust: &Trust,
    agent: Vec<u8>,
    inputs: &Inputs,
) -> Result<(Archive, usize), MediaError> {
    let kernel = Kernel::open(&inputs.kernel, &inputs.release)?;
    let (index, modules) = kernel.closure(&recipe.modules, &recipe.modules_always)?;
    let count = index.modules.len();
    let mut files: BTreeMap<String, (u32, Vec<u8>)> = BTreeMap::new();
    files.insert("/init".into(), (0o755, agent));
    files.insert(TRUST_PATH.into(), (0o644, json(trust)?));
    files.insert("/lib/modules/forestage.json".into(), (0o644, json(&index)?));
    files.extend(
        modules
            .into_iter()
            .map(|(path, bytes)| (path, (0o644, bytes))),
    );
    for (path, file) in elf::closure(&inputs.programs, &recipe.programs)? {
        files.insert(path, (0o755, tree::read(&file, PART_BYTES_MAX)?));
    }
    if let Some(file) = tree::resolve(&inputs.programs, "/etc/mke2fs.conf") {
        files.insert(
            "/etc/mke2fs.conf".into(),
            (0o644, tree::read(&file, PART_BYTES_MAX)?),
        );
    }
    for (from, to) in FONTS {
        files.insert(to.into(), (0o644, part(&inputs.fonts, from)?));
    }
    let mut archive = Archive::default();
    let filled = (|| -> Result<(), CpioError> {
        FOLDERS
            .iter()
            .try_for_each(|folder| archive.folder(folder))?;
        archive.device("/dev/console", 0o600, 5, 1)?;
        archive.device("/dev/null", 0o666, 1, 3)?;
        files
            .into_iter()
            .try_for_each(|(path, (mode, bytes))| archive.file(&path, mode, bytes))
    })();
    filled.map_err(|error| {
        MediaError::unusable(error.path.clone(), "file for the initrd", error.reason)
    })?;
    Ok((archive, count))
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, MediaError> {
    serde_json::to_vec(value)
        .map_err(|error| MediaError::unusable("trust.json", "document", error.to_string()))
}

/// A file of an unpacked package.
fn part(root: &Utf8Path, path: &str) -> Result<Vec<u8>, MediaError> {
    let file = tree::resolve(root, path);
    let file = file.ok_or_else(|| {
        MediaError::unusable(root, "set of packages", format!("{path} is not in it"))
    })?;
    tree::read(&file, PART_BYTES_MAX)
}

struct Parts<'a> {
    kernel: String,
    linux: Vec<u8>,
    stub: Vec<u8>,
    loader: Vec<u8>,
    initrd: Vec<u8>,
    extra: String,
    signer: Option<&'a ImageSigner>,
}

impl Parts<'_> {
    /// The kernel's release and twelve digits of a digest over everything.
    fn version(&self) -> String {
        let mut digests = Vec::new();
        for part in [
            &self.linux[..],
            &self.stub,
            &self.loader,
            &self.initrd,
            self.extra.as_bytes(),
            FORM,
        ] {
            digests.extend_from_slice(Digest::of(part).as_bytes());
        }
        // Signed by somebody else, it is another boot image.
        if let Some(signer) = self.signer {
            digests.extend_from_slice(Digest::of(signer.certificate()).as_bytes());
        }
        format!(
            "{}-{}",
            self.kernel.trim_end_matches("-amd64"),
            &Digest::of(&digests).to_string()[..12]
        )
    }

    fn uki(&self, mode: BootMode, name: &'static str) -> Result<Vec<u8>, MediaError> {
        let version = self.version();
        let os_release = format!(
            "NAME=\"Forestage\"\nPRETTY_NAME=\"Forestage boot image {version} ({mode})\"\nID=forestage\n\
             VERSION_ID=\"{version}\"\n",
            mode = mode.as_str(),
        );
        let command_line = format!(
            "{MODE_PARAMETER}={} {COMMAND_LINE_BASE} {}",
            mode.as_str(),
            self.extra
        );
        let parts = UkiParts {
            os_release: &os_release,
            command_line: command_line.trim_end(),
            linux: &self.linux,
            initrd: &self.initrd,
            uname: None,
        };
        build_uki(&self.stub, &parts).map_err(|source| MediaError::Uki { name, source })
    }

    /// Writes the three files; returns the lengths of the two images.
    fn write(&self, out: &Utf8Path) -> Result<(u64, u64), MediaError> {
        let signed = |image: Vec<u8>, name: &str| match self.signer {
            Some(signer) => signer.sign(&image, name, out),
            None => Ok(image),
        };
        let stage = signed(self.uki(BootMode::Stage, STAGE_FILE)?, STAGE_FILE)?;
        let deploy = signed(self.uki(BootMode::Deploy, DEPLOY_FILE)?, DEPLOY_FILE)?;
        let loader = signed(self.loader.clone(), LOADER_FILE)?;
        tree::write(&out.join(STAGE_FILE), &stage)?;
        tree::write(&out.join(DEPLOY_FILE), &deploy)?;
        tree::write(&out.join(LOADER_FILE), &loader)?;
        Ok((stage.len() as u64, deploy.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_strict_and_has_defaults() {
        let parse = |text: &str| parse_recipe(text, Utf8Path::new("r.yaml"));
        assert_eq!(
            parse("compression-level: 3\n").expect("it parses"),
            BootImageRecipe::default()
        );
        let recipe = parse("kernel-package: linux-image-cloud-amd64\ncompression-level: 19\n")
            .expect("it parses");
        assert_eq!(recipe.compression_level, 19);
        assert!(parse("kernel: x\n").is_err());
        assert!(parse("compression-level: 99\n").is_err());
        assert!(parse("command-line-extra: forestage.mode=stage\n").is_err());
    }

    /// Unpacked packages without kernel modules, whose only program is this system's shell.
    fn inputs(folder: &Utf8Path) -> Inputs {
        let put = |path: &str, bytes: &[u8]| tree::write(&folder.join(path), bytes).expect("file");
        put(
            "kernel/lib/modules/1-amd64/modules.builtin",
            b"kernel/fs/ext4/ext4.ko\nkernel/drivers/nvme/nvme.ko\n",
        );
        put("kernel/boot/vmlinuz-1-amd64", &crate::uki::tests::kernel());
        FONTS
            .iter()
            .for_each(|(path, _)| put(&format!("fonts{path}"), b"font"));
        put(
            "systemd/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
            &crate::uki::tests::stub(4),
        );
        put(
            "systemd/usr/lib/systemd/boot/efi/systemd-bootx64.efi",
            &crate::uki::tests::stub(4),
        );
        Inputs {
            release: "1-amd64".into(),
            kernel: folder.join("kernel"),
            programs: "/".into(),
            fonts: folder.join("fonts"),
            systemd: folder.join("systemd"),
        }
    }

    fn assemble_test(
        agent: &[u8],
        signer: Option<&ImageSigner>,
        out: &Utf8Path,
    ) -> BootImageSummary {
        let folder = tempfile::tempdir().expect("folder");
        let inputs = inputs(Utf8Path::from_path(folder.path()).expect("UTF-8"));
        let recipe = BootImageRecipe {
            modules: vec!["nvme".into()],
            modules_always: vec!["ext4".into()],
            programs: vec!["/bin/sh".into()],
            ..BootImageRecipe::default()
        };
        let trust = Trust {
            format: 1,
            server_urls: vec![],
            ca_pem: String::new(),
            bundle_keys: vec!["ab".repeat(32)],
            wipe_keys: Vec::new(),
        };
        assemble(
            &recipe,
            &trust,
            agent.to_vec(),
            inputs,
            signer,
            out,
            &crate::progress::Silent,
        )
        .expect("it builds")
    }

    #[test]
    fn the_same_input_makes_the_same_bytes() {
        let folder = tempfile::tempdir().expect("folder");
        let folder = Utf8Path::from_path(folder.path()).expect("UTF-8");
        let out = ["one", "two", "three"].map(|name| folder.join(name));
        let one = assemble_test(b"agent", None, &out[0]);
        let two = assemble_test(b"agent", None, &out[1]);
        let three = assemble_test(b"another", None, &out[2]);
        assert_eq!(one, two);
        assert_ne!(one.version, three.version);
        let read = |folder: &Utf8Path, name: &str| std::fs::read(folder.join(name)).expect("file");
        for name in [STAGE_FILE, DEPLOY_FILE, LOADER_FILE] {
            assert_eq!(read(&out[0], name), read(&out[1], name), "{name}");
        }
        assert_ne!(read(&out[0], STAGE_FILE), read(&out[2], STAGE_FILE));
        for (name, mode) in [
            (STAGE_FILE, BootMode::Stage),
            (DEPLOY_FILE, BootMode::Deploy),
        ] {
            let image = read(&out[0], name);
            let trust = trust_in(&image).expect("it says whom it trusts");
            assert_eq!(trust.bundle_keys, ["ab".repeat(32)]);
            assert!(trust_in(&image[..image.len() / 2]).is_err());
            let sections = crate::uki::parse_uki(&image).expect("it parses");
            let of = |name: &str| {
                sections
                    .iter()
                    .find(|section| section.name == name)
                    .expect("section")
                    .bytes
            };
            let command_line = std::str::from_utf8(of(".cmdline")).expect("text");
            assert_eq!(BootMode::from_command_line(command_line), Some(mode));
            let initrd = zstd::decode_all(of(".initrd")).expect("zstd");
            let text = String::from_utf8_lossy(&initrd);
            for path in [
                "init\0",
                "etc/forestage/trust.json",
                "bin/sh",
                "dev/console",
                "lib64/ld-linux-x86-64.so.2",
            ] {
                assert!(text.contains(path), "{path}");
            }
        }
    }

    #[test]
    fn what_is_signed_is_the_same_every_time_and_starts_with_its_certificate_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let folder = Utf8Path::from_path(folder.path()).expect("UTF-8");
        let signers = ["ours", "theirs"].map(|name| {
            let keys = folder.join(name);
            crate::secure_boot::tests::keys(&keys);
            ImageSigner::new(&keys.join("db.key"), &keys.join("db.pem")).expect("a signer")
        });
        let out = ["plain", "one", "two", "three"].map(|name| folder.join(name));
        let plain = assemble_test(b"agent", None, &out[0]);
        let one = assemble_test(b"agent", Some(&signers[0]), &out[1]);
        let two = assemble_test(b"agent", Some(&signers[0]), &out[2]);
        let three = assemble_test(b"agent", Some(&signers[1]), &out[3]);
        assert_eq!(one, two);
        assert_eq!(plain.signed_by, None);
        assert_eq!(one.signed_by.as_deref(), Some("CN=ours db, boot images"));
        let versions = [&plain.version, &one.version, &three.version];
        assert!(versions[0] != versions[1] && versions[1] != versions[2]);
        for name in [STAGE_FILE, DEPLOY_FILE, LOADER_FILE] {
            let [plain, one, two, three] =
                [0, 1, 2, 3].map(|at: usize| std::fs::read(out[at].join(name)).expect("file"));
            assert_eq!(one, two, "{name}");
            assert_ne!(one, three, "{name}");
            assert_ne!(one, plain, "{name}");
            let starts = |keys: &str, out: &Utf8Path| {
                crate::secure_boot::tests::starts(&folder.join(keys), &out.join(name))
            };
            assert!(starts("ours", &out[1]), "{name}");
            assert!(!starts("ours", &out[0]), "{name} isn't signed");
            assert!(!starts("ours", &out[3]), "{name} is signed by others");
        }
        let files = crate::tree::files(&out[1]).expect("files");
        assert_eq!(files.len(), 3, "nothing else is left: {files:?}");
    }

    #[test]
    fn a_module_nobody_has_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let inputs = inputs(Utf8Path::from_path(folder.path()).expect("UTF-8"));
        let kernel = Kernel::open(&inputs.kernel, &inputs.release).expect("kernel");
        assert!(kernel.closure(&["nvme".into()], &[]).is_ok(), "built in");
        assert!(kernel.closure(&["no-such-module".into()], &[]).is_err());
    }

    #[test]
    fn the_example_is_a_recipe() {
        let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../examples/boot-images/standard.yaml");
        assert_eq!(
            load_recipe(&path).expect("it parses").kernel_package,
            "linux-image-amd64"
        );
    }
}
