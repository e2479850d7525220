//! Secrets that are planted before anything is made, and looked for in all that was: sticks, bundles, boot images, the disks of
//! staged and deployed laptops, the server's database and log, the laptops' logs and what went over their network.

use anyhow::{Result, bail, ensure};
use camino::Utf8Path;
use serde_json::Value;
use testkit::planted::Scanner;

use crate::console::say;
use crate::world::World;

const USERS: usize = 100;
const TOKENS: usize = 90;
const WEBHOOKS: usize = 20;
/// How many finds are told; more of them have the same cause.
const TOLD_MAX: usize = 10;

/// What a machine is given to join with.
pub(super) const JOINING: &str = "Fjell-og-fjord-om-kvelden-4711";

/// Makes accounts, tokens, webhooks and a secret for machines, and takes note of all their secrets.
pub(super) fn plant(world: &World) -> Result<Vec<(String, Vec<u8>)>> {
    let mut secrets = vec![(
        "the admin's password".to_owned(),
        world.password().as_bytes().to_vec(),
    )];
    let mut take = |name: String, words: &[&str], key: &str| -> Result<()> {
        let made: Value = world.json(words)?;
        let secret = made[key].as_str().unwrap_or_default();
        let secret = secret.trim_start_matches("whsec_");
        ensure!(
            !secret.is_empty(),
            "`forestage {}` shows no secret",
            words.join(" ")
        );
        secrets.push((name, secret.as_bytes().to_vec()));
        Ok(())
    };
    for number in 0..USERS {
        let name = format!("larer{number}");
        let words = ["user", "add", &name, "--role", "viewer"];
        take(
            format!("the one-time password of {name}"),
            &words,
            "one-time-password",
        )?;
    }
    for number in 0..TOKENS {
        let title = format!("token {number}");
        take(title.clone(), &["token", "create", &title], "token")?;
    }
    for number in 0..WEBHOOKS {
        let url = format!("https://eiendeler.example/{number}");
        take(
            format!("the secret of webhook {number}"),
            &["webhook", "add", &url],
            "secret",
        )?;
    }
    world.feed(&["secret", "set", "domain-join"], JOINING)?;
    secrets.push(("domain-join".to_owned(), JOINING.as_bytes().to_vec()));
    secrets.extend(private_keys(&world.places.work.join("data"))?);
    Ok(secrets)
}

/// The lines of the server's keys.
fn private_keys(data: &Utf8Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut keys = Vec::new();
    for folder in ["keys", "tls"] {
        for entry in data.join(folder).read_dir_utf8()? {
            let path = entry?.into_path();
            if !is_key(&path) {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let lines = text
                .lines()
                .filter(|line| line.len() >= 32 && !line.starts_with("-----"));
            keys.extend(lines.map(|line| (path.to_string(), line.as_bytes().to_vec())));
        }
    }
    ensure!(keys.len() >= 4, "the server has only {} keys", keys.len());
    Ok(keys)
}

fn is_key(path: &Utf8Path) -> bool {
    path.extension() == Some("key")
}

/// Scans everything the scenarios left, but the places where secrets belong: the keys themselves, the admin's own configuration, and
/// the file in which the first start says the one-time login, which has been used up.
pub(super) fn nothing_to_steal(world: &World, secrets: &[(String, Vec<u8>)]) -> Result<()> {
    let is_left_out = |path: &Utf8Path| {
        is_key(path) || matches!(path.file_name(), Some("config.json" | "ready.json"))
    };
    let scanner = Scanner::new(secrets);
    let scan = scanner.scan_path(&world.places.work, &is_left_out)?;
    if !scan.found.is_empty() {
        let told: Vec<String> = scan
            .found
            .iter()
            .take(TOLD_MAX)
            .map(|found| format!("{}, {}: {}", found.secret, found.written, found.place))
            .collect();
        bail!("{} finds: {}", scan.found.len(), told.join("; "));
    }
    say(&format!(
        "{} secrets: none in {} files, {} MiB and {} streams in them",
        secrets.len(),
        scan.files,
        scan.bytes >> 20,
        scan.streams
    ));
    Ok(())
}
