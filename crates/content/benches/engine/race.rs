//! Runs us and the peers in turn, and measures each as a process.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use crate::data::Data;

/// One figure: what we do, and what the peers do for the same end.
pub(crate) struct Race {
    name: &'static str,
    kept: PathBuf,
    before: String,
    runners: Vec<Runner>,
    missing: Vec<&'static str>,
    goals: Vec<Goal>,
}

struct Runner {
    name: &'static str,
    script: String,
}

type Formula = dyn Fn(&Figures) -> Option<f64>;

/// What must hold between the medians.
struct Goal {
    name: &'static str,
    limit: f64,
    is_most: bool,
    ratio: Box<Formula>,
}

/// What was measured, by runner.
pub(crate) struct Figures(BTreeMap<&'static str, Vec<Measured>>);

/// One measured process, with everything it started.
#[derive(Debug, Clone, Copy)]
struct Measured {
    seconds: f64,
    cpu_seconds: f64,
    /// Of the largest of the processes.
    memory_bytes: f64,
    /// What was in `$W/out` afterwards.
    output_bytes: f64,
}

/// What every script may use: `$OURS` is this program, `$NEW` the tree, `$IMAGE` it as a filesystem image, `$W` the folder
/// of the data, `$LOOP` a loop device on a file that was full of noise, `$T` a fresh ext4 on it, `$W/out` an empty folder.
const HELPERS: &str = r#"
T=$W/mount; NEW=$W/tree-new; IMAGE=$W/new.img
LOOP=$(cat "$W/loop" 2>/dev/null || true)
cold() { sync; echo 3 > /proc/sys/vm/drop_caches; }
away() { ! mountpoint -q "$T" || umount "$T"; for device in $(losetup -j "$W/target" -O NAME -n); do losetup -d "$device"; done; }
target() { away; whole; dd if=$W/noise of=$W/target bs=256K conv=notrunc,fsync status=none; LOOP=$(losetup --direct-io=on -f --show "$W/target"); echo "$LOOP" > "$W/loop"; mkfs.ext4 -q -F -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$LOOP"; mkdir -p "$T"; }
# Zeroing a stretch makes a hole in the file, which would cost whoever comes next.
whole() { local file=$W/target; [ $(($(stat -c %b "$file") * 512)) -ge "$(stat -c %s "$file")" ] || dd if=/dev/zero of="$file" bs=256K count=$(($(stat -c %s "$file") / 262144)) conv=notrunc,fsync status=none; }
fresh() { mount "$LOOP" "$T"; }
rm_out() { rm -rf "$W/out"; mkdir "$W/out"; }
"#;

impl Race {
    pub(crate) fn new(name: &'static str, data: &Data) -> Self {
        Self {
            name,
            kept: data.kept.clone(),
            before: String::new(),
            runners: Vec::new(),
            missing: Vec::new(),
            goals: Vec::new(),
        }
    }

    /// What is done before each run, unmeasured; all caches are emptied behind it.
    pub(crate) fn before(mut self, script: &str) -> Self {
        script.clone_into(&mut self.before);
        self
    }

    pub(crate) fn ours(self, script: &str) -> Self {
        self.runner("ours", script)
    }

    /// Someone who runs along, to compare with.
    pub(crate) fn runner(mut self, name: &'static str, script: &str) -> Self {
        self.runners.push(Runner {
            name,
            script: script.to_owned(),
        });
        self
    }

    /// A peer, for which `program` must be installed, and how many times faster we mean to be.
    pub(crate) fn peer(
        mut self,
        program: &str,
        name: &'static str,
        goal: f64,
        script: &str,
    ) -> Self {
        if !is_installed(program) {
            self.missing.push(name);
            return self;
        }
        self.runner(name, script)
            .at_least(name, goal, move |figures| {
                Some(figures.seconds(name)? / figures.seconds("ours")?)
            })
    }

    pub(crate) fn at_least(
        self,
        name: &'static str,
        limit: f64,
        ratio: impl Fn(&Figures) -> Option<f64> + 'static,
    ) -> Self {
        self.goal(name, limit, false, ratio)
    }

    pub(crate) fn at_most(
        self,
        name: &'static str,
        limit: f64,
        ratio: impl Fn(&Figures) -> Option<f64> + 'static,
    ) -> Self {
        self.goal(name, limit, true, ratio)
    }

    fn goal(
        mut self,
        name: &'static str,
        limit: f64,
        is_most: bool,
        ratio: impl Fn(&Figures) -> Option<f64> + 'static,
    ) -> Self {
        self.goals.push(Goal {
            name,
            limit,
            is_most,
            ratio: Box::new(ratio),
        });
        self
    }

    /// Our memory, against its limit.
    pub(crate) fn memory_at_most(self, mebibytes: f64) -> Self {
        self.at_most("memory", 1.0, move |figures| {
            let most =
                |run: &[Measured]| run.iter().map(|run| run.memory_bytes).fold(0.0, f64::max);
            Some(most(figures.0.get("ours")?) / (mebibytes * 1024.0 * 1024.0))
        })
    }

    /// Runs everything `rounds` times, in turn.
    pub(crate) fn run(&self, rounds: usize) -> Value {
        let mut figures = Figures(BTreeMap::new());
        for round in 1..=rounds {
            for runner in &self.runners {
                let run = self.once(&runner.script);
                eprintln!(
                    "{} {round}/{rounds} {}: {:.2} s, {:.1} s of processor, {:.0} MiB of memory",
                    self.name,
                    runner.name,
                    run.seconds,
                    run.cpu_seconds,
                    run.memory_bytes / 1_048_576.0
                );
                figures.0.entry(runner.name).or_default().push(run);
            }
        }
        self.shell("away");
        let peers: Map<String, Value> = (figures.0.keys())
            .filter(|name| **name != "ours")
            .map(|name| ((*name).to_owned(), json!(figures.seconds(name))))
            .collect();
        let runs: Map<String, Value> = (figures.0.iter())
            .map(|(name, runs)| ((*name).to_owned(), summary(runs)))
            .collect();
        let ratios = self.goals.iter().filter_map(|goal| {
            let ratio = (goal.ratio)(&figures)?;
            Some(Ratio {
                name: goal.name,
                ratio,
                limit: goal.limit,
                is_most: goal.is_most,
            })
        });
        result(
            self.name,
            "seconds",
            figures.seconds("ours"),
            peers,
            &ratios.collect::<Vec<_>>(),
            json!({
                "missing": self.missing,
                "runs": runs,
            }),
        )
    }

    fn once(&self, script: &str) -> Measured {
        self.shell(&format!("rm_out\n{}\ncold", self.before));
        let times = self.kept.join("times");
        let status = self
            .bash(
                Command::new("time")
                    .args(["-f", "%e %U %S %M", "-o"])
                    .arg(&times)
                    .arg("bash"),
                script,
            )
            .stdout(Stdio::null())
            .status()
            .expect("Debian's package `time` is installed");
        assert!(status.success(), "{}: {script}: {status}", self.name);
        let text = std::fs::read_to_string(&times).unwrap();
        let numbers: Vec<f64> = text
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [seconds, user, system, kibibytes] = numbers[..] else {
            panic!("`time` said {text:?}");
        };
        let output = Command::new("du")
            .args(["-s", "--apparent-size", "--block-size=1"])
            .arg(self.kept.join("out"))
            .output()
            .unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        Measured {
            seconds,
            cpu_seconds: user + system,
            memory_bytes: kibibytes * 1024.0,
            output_bytes: output.split_whitespace().next().unwrap().parse().unwrap(),
        }
    }

    fn shell(&self, script: &str) {
        let status = self
            .bash(&mut Command::new("bash"), script)
            .status()
            .unwrap();
        assert!(status.success(), "{}: {script}: {status}", self.name);
    }

    fn bash<'c>(&self, command: &'c mut Command, script: &str) -> &'c mut Command {
        command
            .args(["-euo", "pipefail", "-c", &format!("{HELPERS}\n{script}")])
            .env("W", &self.kept)
            .env("OURS", crate::ours::command())
    }
}

impl Figures {
    pub(crate) fn seconds(&self, name: &str) -> Option<f64> {
        Some(median(self.0.get(name)?, |run| run.seconds))
    }

    pub(crate) fn output_bytes(&self, name: &str) -> Option<f64> {
        Some(median(self.0.get(name)?, |run| run.output_bytes))
    }
}

/// A ratio and its goal.
pub(crate) struct Ratio {
    pub(crate) name: &'static str,
    pub(crate) ratio: f64,
    pub(crate) limit: f64,
    /// Whether less is better.
    pub(crate) is_most: bool,
}

impl Ratio {
    fn is_met(&self) -> bool {
        match self.is_most {
            true => self.ratio <= self.limit,
            false => self.ratio >= self.limit,
        }
    }

    /// How far beyond the goal it is; below 1 it isn't reached.
    fn margin(&self) -> f64 {
        match self.is_most {
            true => self.limit / self.ratio,
            false => self.ratio / self.limit,
        }
    }
}

/// A result; its ratio is the one that is furthest from its goal.
pub(crate) fn result(
    name: &str,
    unit: &str,
    ours: Option<f64>,
    peers: Map<String, Value>,
    ratios: &[Ratio],
    more: Value,
) -> Value {
    let worst = ratios
        .iter()
        .min_by(|left, right| left.margin().total_cmp(&right.margin()));
    let detail = |ratio: &Ratio| {
        let goal = if ratio.is_most { "at-most" } else { "at-least" };
        json!({ "name": ratio.name, "ratio": rounded(ratio.ratio), goal: ratio.limit, "met": ratio.is_met() })
    };
    let mut result = json!({
        "name": name,
        "unit": unit,
        "ours": ours,
        "peers": peers,
        "against": worst.map(|worst| worst.name),
        "ratio": worst.map(|worst| rounded(worst.ratio)),
        "goal": worst.map(|worst| worst.limit),
        "met": worst.map(Ratio::is_met),
        "ratios": ratios.iter().map(detail).collect::<Vec<_>>(),
    });
    if let (Value::Object(result), Value::Object(more)) = (&mut result, more) {
        result.extend(more);
    }
    result
}

fn rounded(ratio: f64) -> f64 {
    (ratio * 1000.0).round() / 1000.0
}

fn is_installed(program: &str) -> bool {
    let found = Command::new("bash")
        .args(["-c", "command -v \"$0\"", program])
        .stdout(Stdio::null())
        .status();
    found.is_ok_and(|status| status.success())
}

fn summary(runs: &[Measured]) -> Value {
    let seconds = || runs.iter().map(|run| run.seconds);
    json!({
        "seconds": median(runs, |run| run.seconds),
        "least": seconds().fold(f64::INFINITY, f64::min),
        "most": seconds().fold(0.0, f64::max),
        "cpu-seconds": median(runs, |run| run.cpu_seconds),
        "memory-bytes": median(runs, |run| run.memory_bytes),
        "output-bytes": median(runs, |run| run.output_bytes),
    })
}

fn median(runs: &[Measured], figure: impl Fn(&Measured) -> f64) -> f64 {
    let mut figures: Vec<f64> = runs.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
