//! The variables of virtual machines' firmware, with keys enrolled.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use testkit::vm::OVMF_VARS;

use crate::python;
use crate::world::Places;

const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Prints the Authenticode digest of a program for UEFI.
const DIGEST: &str = "import pefile, sys\n\
    from virt.peutils.pesign import pe_authenticode_hash\n\
    print(pe_authenticode_hash(pefile.PE(sys.argv[1], fast_load=True)).hex())";

/// Writes variables.
pub(super) struct Firmware {
    program: Utf8PathBuf,
    folder: Utf8PathBuf,
}

/// What is enrolled.
pub(super) struct Enrolled<'a> {
    /// The folder that `forestage secure-boot create-keys` made.
    pub(super) keys: &'a Utf8Path,
    /// Whether the firmware looks at signatures.
    pub(super) is_enforced: bool,
    /// A program for UEFI that `dbx` names by its digest.
    pub(super) withdrawn: Option<&'a Utf8Path>,
}

impl Firmware {
    pub(super) fn new(places: &Places) -> Result<Self> {
        let programs = places.root.join("target/python");
        std::fs::create_dir_all(&programs)?;
        let folder = places.work.join("firmware");
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            program: python::program(&programs, "virt-fw-vars", REQUIREMENTS)?,
            folder,
        })
    }

    /// The file with a firmware's variables.
    pub(super) fn variables(&self, name: &str, enrolled: &Enrolled<'_>) -> Result<Utf8PathBuf> {
        let out = self.folder.join(format!("{name}.fd"));
        let owner = std::fs::read_to_string(enrolled.keys.join("owner.txt"))?;
        let owner = owner.trim();
        let mut command = Command::new(&self.program);
        command.args([
            "--input",
            OVMF_VARS,
            "--output",
            out.as_str(),
            "--no-microsoft",
        ]);
        for (option, file) in [
            ("--set-pk", "PK.pem"),
            ("--add-kek", "KEK.pem"),
            ("--add-db", "db.pem"),
            ("--add-db", "debian-ca.cer"),
        ] {
            command.args([option, owner, enrolled.keys.join(file).as_str()]);
        }
        if let Some(image) = enrolled.withdrawn {
            command.args(["--add-dbx-hash", owner, &self.digest(image)?]);
        }
        if enrolled.is_enforced {
            command.arg("--secure-boot");
        } else {
            command.args(["--set-false", "SecureBootEnable"]);
        }
        said(&mut command).context("cannot write the firmware's variables")?;
        Ok(out)
    }

    fn digest(&self, image: &Utf8Path) -> Result<String> {
        let mut python = Command::new(self.program.with_file_name("python"));
        let said = said(python.args(["-c", DIGEST, image.as_str()]));
        Ok(said
            .with_context(|| format!("cannot take the digest of {image}"))?
            .trim()
            .to_owned())
    }
}

fn said(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "it ended with {}: {errors}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}
