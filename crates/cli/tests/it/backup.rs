//! A server that burns down, and another one that goes on from its backup.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Instant;

use testkit::drill;

use crate::world::{World, program, text};

/// What a data folder may have; what is new must be backed up, or be left out on purpose.
const KNOWN: [&str; 8] = [
    "backup.lock",
    "bundles",
    "forestage.db",
    "forestage.db-shm",
    "forestage.db-wal",
    "keys",
    "library",
    "tls",
];
const MACHINES: usize = 5;
/// A backup is killed at so many moments.
const KILLS: u32 = 20;

fn states(world: &World) -> BTreeSet<String> {
    let devices = world.json(&["device", "list"]);
    let devices = devices.as_array().unwrap();
    assert_eq!(devices.len(), MACHINES);
    let state = |device: &serde_json::Value| device["state"].as_str().unwrap().to_owned();
    devices.iter().map(state).collect()
}

/// The public part of a new key in `backup.key`.
fn key(world: &World) -> String {
    world
        .run(&["backup", "key", "backup.key"])
        .trim()
        .to_owned()
}

#[test]
fn enrolled_machines_go_on_with_a_server_that_was_restored_elsewhere() {
    let mut world = World::start();
    let devices = u32::try_from(MACHINES).unwrap();
    for command in drill::commands(drill::TRAINING.into(), devices, 2) {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        world.run(&words);
    }
    let switch_on = |world: &World, fail: &str| {
        world.json(&[
            "simulate", "run", "--within", "1s", "--speed", "1000", "--fail", fail,
        ])
    };
    assert_eq!(switch_on(&world, "100%")["ends"]["failed"], MACHINES);
    let public = key(&world);
    let made = world.json(&[
        "backup", "create", "a.backup", "--data", "data", "--to", &public,
    ]);
    assert_eq!(made["head"]["with-content"], true);
    let entries = std::fs::read_dir(world.path("data")).unwrap();
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(KNOWN.contains(&name.as_str()), "{name}");
    }
    // It burns down.
    world.kill();
    std::fs::remove_dir_all(world.path("data")).unwrap();
    let open = ["a.backup", "--key", "backup.key"];
    world.run(&[&["backup", "verify"], &open[..]].concat());
    world.run(
        &[
            &["backup", "restore"],
            &open[..],
            &["--data", "elsewhere/data"],
        ]
        .concat(),
    );
    world.start_elsewhere("elsewhere");
    assert_eq!(states(&world), ["failed".to_owned()].into());
    world.run(&["deployment", "retry-failed", "drill"]);
    let report = switch_on(&world, "0%");
    assert_eq!(report["surprises"], serde_json::json!([]), "{report:#}");
    assert_eq!(report["ends"]["done"], MACHINES, "{report:#}");
    assert_eq!(report["events"]["lost"], 0, "{report:#}");
    assert_eq!(states(&world), ["completed".to_owned()].into());
    world.run(&["audit", "verify"]);
}

#[test]
fn a_backup_that_is_killed_is_there_as_a_whole_or_not_at_all() {
    let world = World::start();
    // Long enough to be cut in.
    world.write("data/library/packs/0a.pack", vec![7; 8 << 20]);
    let public = key(&world);
    let create = |file: &str| -> Command {
        let words = ["backup", "create", file, "--data", "data"];
        let mut command = program(
            world.folder.path(),
            &[&words[..], &["--to", &public]].concat(),
        );
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let began = Instant::now();
    assert!(create("whole").status().unwrap().success());
    let takes = began.elapsed();
    let mut missing = 0;
    for number in 0..KILLS {
        let file = format!("{number}.backup");
        let mut running = create(&file).spawn().unwrap();
        // Where it is cut doesn't matter, only that it is cut in many places.
        std::thread::sleep(takes * number / KILLS);
        running.kill().unwrap();
        running.wait().unwrap();
        if world.path(&file).exists() {
            world.run(&["backup", "verify", &file, "--key", "backup.key"]);
        } else {
            missing += 1;
        }
    }
    assert!(missing > 0, "none was cut");
    // What they left behind stands in nobody's way.
    assert!(create("last").status().unwrap().success());
    assert!(!world.path("data/backup.db").exists());
}

#[test]
fn nothing_is_written_over_and_the_wrong_key_opens_nothing() {
    let world = World::start();
    let public = key(&world);
    let (code, _, stderr) = world.fail(&["backup", "key", "backup.key"]);
    assert_eq!(code, 3, "{stderr}");
    let create = [
        "backup", "create", "a.backup", "--data", "data", "--to", &public,
    ];
    assert!(world.run(&create).starts_with("a.backup: "));
    let (code, _, stderr) = world.fail(&create);
    assert_eq!(code, 3, "{stderr}");
    let left_out = world.json(&[
        "backup",
        "create",
        "small.backup",
        "--data",
        "data",
        "--to",
        &public,
        "--without-content",
    ]);
    assert_eq!(left_out["head"]["with-content"], false);
    let restore = [
        "backup",
        "restore",
        "a.backup",
        "--key",
        "backup.key",
        "--data",
        "data",
    ];
    let (code, _, stderr) = world.fail(&restore);
    assert_eq!(code, 3, "{stderr}");
    world.run(&["backup", "key", "other.key"]);
    let (code, _, stderr) = world.fail(&["backup", "verify", "a.backup", "--key", "other.key"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("with this key"), "{stderr}");
    let (code, _, stderr) = world.fail(&["backup", "verify", "a.backup", "--key", "a.backup"]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("AGE-SECRET-KEY-1"), "{stderr}");
    let (code, _, stderr) = world.fail(&[
        "backup", "create", "b.backup", "--data", "nothing", "--to", &public,
    ]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("forestage serve --data"), "{stderr}");
    // Cut off, and with a byte that is another one.
    let whole = std::fs::read(world.path("a.backup")).unwrap();
    let mut altered = whole.clone();
    altered[whole.len() / 2] ^= 1;
    for bytes in [&whole[..whole.len() - 1], &altered] {
        world.write("damaged.backup", bytes);
        let restore = [
            "damaged.backup",
            "--key",
            "backup.key",
            "--data",
            "restored",
        ];
        let (code, _, stderr) = world.fail(&[&["backup", "restore"], &restore[..]].concat());
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains("damaged.backup is damaged"), "{stderr}");
        assert!(!world.path("restored").exists());
    }
    // The secrets of this server, as they lie in its folder.
    let backup = std::fs::read(world.path("a.backup")).unwrap();
    for secret in [
        "data/tls/ca.key",
        "data/tls/server.key",
        "data/keys/bundle.key",
    ] {
        let secret = text(&std::fs::read(world.path(secret)).unwrap());
        let line = secret.lines().find(|line| !line.starts_with('-')).unwrap();
        let is_there = backup.windows(line.len()).any(|w| w == line.as_bytes());
        assert!(!is_there, "{line}");
    }
}
