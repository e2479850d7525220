//! Runs us and the peers in turn, and measures each as a process.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::data::Data;

/// One figure: what we do, and what the peers do for the same end.
pub(crate) struct Race {
    pub(crate) name: &'static str,
    kept: std::path::PathBuf,
    before: String,
    ours: String,
    peers: Vec<Peer>,
}

struct Peer {
    name: &'static str,
    /// How many times faster we mean to be.
    goal: f64,
    script: String,
}

/// One measured process.
#[derive(Debug, Clone, Copy)]
struct Runner {
    seconds: f64,
    cpu_seconds: f64,
    memory_bytes: u64,
}

/// What every script may use.
const HELPERS: &str = r#"
OUT_OF_TIME=; T=$W/mount; NEW=$W/tree-new; IMAGE=$W/new.img
cold() { sync; for file in "$@"; do [ -e "$file" ] && dd of="$file" oflag=nocache conv=notrunc count=0 status=none || true; done; echo 3 > /proc/sys/vm/drop_caches; }
away() { mountpoint -q "$T" && umount "$T"; for device in $(losetup -j "$W/target" -O NAME -n); do losetup -d "$device"; done; }
target() { away || true; losetup --direct-io=on -f --show "$W/target" > "$W/loop"; mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$(cat "$W/loop")"; mkdir -p "$T"; }
fresh() { mountpoint -q "$T" || mount "$LOOP" "$T"; }
LOOP=$(cat "$W/loop" 2>/dev/null || true)
"#;

impl Race {
    pub(crate) fn new(name: &'static str, data: &Data) -> Self {
        Self {
            name,
            kept: data.kept.clone(),
            before: String::new(),
            ours: String::new(),
            peers: Vec::new(),
        }
    }

    /// What is done before each run, unmeasured.
    pub(crate) fn before(mut self, script: &str) -> Self {
        self.before = script.to_owned();
        self
    }

    pub(crate) fn ours(mut self, script: &str) -> Self {
        self.ours = script.to_owned();
        self
    }

    pub(crate) fn peer(mut self, name: &'static str, goal: f64, script: &str) -> Self {
        self.peers.push(Peer {
            name,
            goal,
            script: script.to_owned(),
        });
        self
    }

    /// Runs everything `rounds` times, in turn.
    pub(crate) fn run(&self, rounds: usize) -> Value {
        let mut runs: BTreeMap<&str, Vec<Runner>> = BTreeMap::new();
        for round in 0..rounds {
            let peers = self.peers.iter().map(|peer| (peer.name, &peer.script));
            for (name, script) in std::iter::once(("ours", &self.ours)).chain(peers) {
                let run = self.once(script);
                eprintln!(
                    "{} {round} {name}: {:.2} s, {:.1} s of processor, {} MiB",
                    self.name,
                    run.seconds,
                    run.cpu_seconds,
                    run.memory_bytes >> 20
                );
                runs.entry(name).or_default().push(run);
            }
        }
        self.shell("away || true");
        let ours = figure(&runs["ours"]);
        let median = |figure: &Value| figure["seconds"].as_f64().unwrap();
        let peers: serde_json::Map<String, Value> = self
            .peers
            .iter()
            .map(|peer| {
                let mut found = figure(&runs[peer.name]);
                let ratio = median(&found) / median(&ours);
                found["ratio"] = json!((ratio * 100.0).round() / 100.0);
                found["goal"] = json!((peer.goal * 100.0).round() / 100.0);
                found["met"] = json!(ratio >= peer.goal);
                (peer.name.to_owned(), found)
            })
            .collect();
        json!({ "name": self.name, "unit": "seconds", "ours": ours, "peers": peers })
    }

    fn once(&self, script: &str) -> Runner {
        self.shell(&self.before);
        let times = self.kept.join("times");
        let status = Command::new("time")
            .args(["-f", "%e %U %S %M", "-o"])
            .arg(&times)
            .args(["bash", "-euo", "pipefail", "-c"])
            .arg(format!("{HELPERS}\n{script}"))
            .env("W", &self.kept)
            .env("OURS", self_command())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{}: {script}: {status}", self.name);
        let text = std::fs::read_to_string(&times).unwrap();
        let numbers: Vec<f64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [seconds, user, system, kibibytes] = numbers[..] else {
            panic!("`time` said {text:?}");
        };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "kibibytes of memory"
        )]
        Runner {
            seconds,
            cpu_seconds: user + system,
            memory_bytes: kibibytes as u64 * 1024,
        }
    }

    fn shell(&self, script: &str) {
        let status = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &format!("{HELPERS}\n{script}")])
            .env("W", &self.kept)
            .env("OURS", self_command())
            .status()
            .unwrap();
        assert!(status.success(), "{}: {script}: {status}", self.name);
    }
}

fn self_command() -> String {
    format!("{} ours", std::env::current_exe().unwrap().display())
}

fn figure(runs: &[Runner]) -> Value {
    let mut seconds: Vec<f64> = runs.iter().map(|run| run.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let mut cpu: Vec<f64> = runs.iter().map(|run| run.cpu_seconds).collect();
    cpu.sort_by(f64::total_cmp);
    json!({
        "seconds": seconds[seconds.len() / 2],
        "least": seconds[0],
        "most": seconds[seconds.len() - 1],
        "cpu-seconds": cpu[cpu.len() / 2],
        "memory-bytes": runs.iter().map(|run| run.memory_bytes).max(),
    })
}
