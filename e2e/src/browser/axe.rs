//! axe-core, which finds what people with a screen reader, a keyboard or weak eyes can't use. It is Mozilla-licensed and
//! fetched when the tests run; it is no part of the product and isn't committed.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use camino::Utf8Path;

use super::chromium::Browser;

/// The release whose rules the pages must pass.
const VERSION: &str = "4.10.3";

/// The text of axe-core; fetched once.
pub(super) fn source(folder: &Utf8Path) -> Result<String> {
    let folder = folder.join("tools").join(VERSION);
    let file = folder.join("node_modules/axe-core/axe.min.js");
    if !file.exists() {
        std::fs::create_dir_all(&folder)?;
        let done = Command::new("npm")
            .args([
                "install",
                "--no-save",
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
            ])
            .args(["--prefix", folder.as_str()])
            .arg(format!("axe-core@{VERSION}"))
            .output()
            .context("cannot start npm, which fetches axe-core: `cargo xtask setup` installs it")?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(
            done.status.success(),
            "npm can't fetch axe-core {VERSION}: {said}"
        );
    }
    std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))
}

/// What axe-core finds wrong with the page, in its words.
pub(super) fn violations(browser: &mut Browser, source: &str) -> Result<Vec<String>> {
    browser.value(&format!("{source}; true"))?;
    let found = browser.value(
        "axe.run(document, { resultTypes: ['violations'] }).then(result => result.violations.flatMap(violation => \
         violation.nodes.slice(0, 3).map(node => `axe ${violation.id}: ${node.target} ` + \
         (node.any[0] ?? node.all[0] ?? node.none[0])?.message)))",
    )?;
    let found = found.as_array().cloned().unwrap_or_default();
    Ok(found
        .iter()
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect())
}
