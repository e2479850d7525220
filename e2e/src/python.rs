//! Programs in Python that tests work with. They are fetched when the tests run, with all releases pinned, and are no part of
//! the product.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use camino::{Utf8Path, Utf8PathBuf};

/// The program `name` that these requirements bring, in a place of its own below `folder`; fetched once.
pub(crate) fn program(folder: &Utf8Path, name: &str, requirements: &str) -> Result<Utf8PathBuf> {
    let digest = blake3::hash(requirements.as_bytes()).to_hex();
    let place = folder.join(format!("{name}-{}", &digest[..16]));
    let program = place.join("bin").join(name);
    let done = place.join("done");
    if done.exists() {
        return Ok(program);
    }
    let file = folder.join("requirements.txt");
    std::fs::write(&file, requirements)?;
    said_well(
        Command::new("python3").args(["-m", "venv", "--clear", place.as_str()]),
        &format!(
            "python3 can't make a place for {name}: `cargo xtask setup` installs what that needs"
        ),
    )?;
    said_well(
        Command::new(place.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&file),
        &format!("pip can't fetch {name}, which the tests work with"),
    )?;
    std::fs::write(done, "")?;
    Ok(program)
}

fn said_well(command: &mut Command, otherwise: &str) -> Result<()> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| otherwise.to_owned())?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{otherwise}: {said}");
    Ok(())
}
