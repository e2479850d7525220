//! The drill: what has to be done on an empty server before a fleet that doesn't exist can be switched on.

use camino::Utf8Path;

/// The sequence of a drill for people.
pub const TRAINING: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../examples/sequences/training-laptop.yaml"
);
/// More than any drill has.
const CAP: &str = "10000";

/// The words of `forestage`, one command after the other. They leave the files of the fleet in the folder `fleet`;
/// `forestage simulate run` comes next.
#[must_use]
pub fn commands(sequence: &Utf8Path, devices: u32, sites: u32) -> Vec<Vec<String>> {
    let name = sequence.file_stem().unwrap_or_default();
    let (devices, sites) = (devices.to_string(), sites.to_string());
    let commands: [&[&str]; 5] = [
        &["sequence", "put", sequence.as_str()],
        &["collection", "create", "drill"],
        &[
            "simulate",
            "assets",
            "--devices",
            &devices,
            "--sites",
            &sites,
            "--folder",
            "fleet",
        ],
        &[
            "asset",
            "import",
            "fleet/assets.csv",
            "--collection",
            "drill",
        ],
        &[
            "deployment",
            "create",
            "drill",
            "--collection",
            "drill",
            "--sequence",
            name,
            "--expected",
            "5m",
            "--cap",
            CAP,
        ],
    ];
    let owned = |words: &&[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    commands.iter().map(owned).collect()
}
