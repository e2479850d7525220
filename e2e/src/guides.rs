//! Every guide, done from top to bottom by someone who types nothing but what it shows.
//!
//! Each page gets a fresh world: a server on a free port with an empty data folder at `$DATA`, an admin who is logged in,
//! an empty working folder, the repository's examples at `$EXAMPLES`. Its `sh` blocks run in order, in one shell, as in the
//! terminal of a reader: what one block sets, the next one sees. Nothing can be left out.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use serde_json::Value;

use crate::{console, documents};

/// The admin's password; the one-time password is used up on the way to it.
pub(crate) const PASSWORD: &str = "Midnattssol-over-Senja-2026";
/// How long the server may take to start.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long a guide may take: a reader would have given up, too.
const GUIDE_TIME_MAX: Duration = Duration::from_secs(600);
/// How large the county of `docs/guide/county.md` is here. Its reader, who sets nothing, gets 2,500 machines.
const COUNTY_MACHINES: &str = "112";
/// How much of the output of a block is shown when it fails.
const SHOWN_LINES_MAX: usize = 60;
/// Between the words of a command in the list of what was run.
const BETWEEN_WORDS: char = '\u{1f}';

/// Runs the guides with these names, or all that no virtual machine is needed for.
pub(crate) fn run(names: &[String]) -> Result<()> {
    let root = root();
    let names = if names.is_empty() {
        all(root)?
    } else {
        names.to_vec()
    };
    let forestage = program()?;
    let mut failed = 0;
    for name in &names {
        let started = Instant::now();
        match guide(root, &forestage, name) {
            Ok(shown) => console::say(&format!(
                "guide {name}: {shown} commands, {} s",
                started.elapsed().as_secs()
            )),
            Err(error) => {
                failed += 1;
                console::failure(&error.context(format!("docs/guide/{name}.md")));
            }
        }
    }
    console::results(names.len() - failed, failed);
    ensure!(failed == 0, "{failed} guides don't work as they stand");
    Ok(())
}

/// The root of the repository.
pub(crate) fn root() -> &'static Utf8Path {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("e2e lies in the root")
}

/// Every page of `docs/guide` that no virtual machine is needed for.
fn all(root: &Utf8Path) -> Result<Vec<String>> {
    let folder = root.join("docs/guide");
    let mut names = Vec::new();
    for entry in folder
        .read_dir_utf8()
        .with_context(|| format!("cannot read {folder}"))?
    {
        let entry = entry?;
        let page = format!("docs/guide/{}", entry.file_name());
        if let Some(name) = entry.file_name().strip_suffix(".md")
            && !documents::RUN_BY_THE_DEMO.contains(&page.as_str())
            && page != documents::RUN_WITH_SECURE_BOOT
        {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The program for people, of the same build as this one.
pub(crate) fn program() -> Result<Utf8PathBuf> {
    let own = Utf8PathBuf::from_path_buf(std::env::current_exe()?)
        .map_err(|path| anyhow::anyhow!("the path {} is not UTF-8", path.display()))?;
    let is_release = own.as_str().contains("/release/");
    // Under `cargo run`, what the guides show is what the sources say now.
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "cli"]);
        if is_release {
            build.arg("--release");
        }
        let status = build.status().context("cannot start cargo")?;
        ensure!(status.success(), "cannot build forestage");
    }
    let forestage = own.with_file_name("forestage");
    ensure!(
        forestage.exists(),
        "{forestage} is missing: `cargo build --package cli` makes it"
    );
    Ok(forestage)
}

fn guide(root: &Utf8Path, forestage: &Utf8Path, name: &str) -> Result<usize> {
    let page = root.join("docs/guide").join(format!("{name}.md"));
    let text = std::fs::read_to_string(&page).with_context(|| format!("cannot read {page}"))?;
    let blocks = blocks(&text);
    let world = World::start(root, forestage, name)?;
    world.run(&blocks)?;
    documents::check_text(&text, &world.commands()?)
}

/// A block of commands, and the line it begins at.
#[derive(Debug, PartialEq, Eq)]
struct Block {
    line: usize,
    text: String,
}

/// The `sh` blocks of a page.
fn blocks(markdown: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut is_inside = false;
    let mut is_shell = false;
    for (index, line) in markdown.lines().enumerate() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            is_inside = !is_inside;
            is_shell = is_inside && language.trim() == "sh";
            if is_shell {
                let line = index + 2;
                let text = String::new();
                found.push(Block { line, text });
            }
        } else if is_shell && let Some(block) = found.last_mut() {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    found
}

/// All blocks as one script. Each says where it begins, and has its output to itself.
fn script(blocks: &[Block]) -> String {
    let mut script = String::from("set -euo pipefail\n");
    for (number, block) in blocks.iter().enumerate() {
        script.push_str(&format!(
            "echo {number} > \"$GUIDE_LOGS/at\"\nexec > \"$GUIDE_LOGS/{number}.log\" 2>&1\n{}",
            block.text
        ));
    }
    script
}

const ELSEWHERE: &str = "the server is elsewhere";

/// Any port that is free.
pub(crate) const ANY_PORT: &str = "127.0.0.1:0";

/// A server, and a terminal to type in.
pub(crate) struct World {
    folder: Utf8PathBuf,
    examples: Utf8PathBuf,
    program: Utf8PathBuf,
    /// Of `forestage serve`.
    options: Vec<String>,
    /// None while it is elsewhere.
    server: Option<Child>,
    url: String,
    /// Where it listens.
    address: String,
}

impl World {
    pub(crate) fn start(root: &Utf8Path, forestage: &Utf8Path, name: &str) -> Result<Self> {
        Self::start_with(root, forestage, name, ANY_PORT, &[])
    }

    /// The same at this address, with further options of `forestage serve`.
    pub(crate) fn start_with(
        root: &Utf8Path,
        forestage: &Utf8Path,
        name: &str,
        address: &str,
        options: &[&str],
    ) -> Result<Self> {
        let mut world = Self::without_server(root, forestage, name)?;
        world.options = options.iter().map(|&option| option.to_owned()).collect();
        let server = serve(forestage, &world.folder, address, &world.options)?;
        world.server = Some(server);
        let ready = world.wait_until_ready()?;
        world.sign_in(&ready)?;
        Ok(world)
    }

    /// A terminal alone. The server is elsewhere; [`Self::sign_in`] comes next.
    pub(crate) fn without_server(
        root: &Utf8Path,
        forestage: &Utf8Path,
        name: &str,
    ) -> Result<Self> {
        let folder = root.join("target/guides").join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {folder}"))?;
        }
        for inner in ["work", "bin", "logs"] {
            std::fs::create_dir_all(folder.join(inner))?;
        }
        wrap(forestage, &folder)?;
        Ok(Self {
            folder,
            examples: root.join("examples"),
            program: forestage.to_owned(),
            options: Vec::new(),
            server: None,
            url: String::new(),
            address: String::new(),
        })
    }

    /// Ends the server with SIGKILL, whatever it is doing.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let server = self.server.as_mut().context(ELSEWHERE)?;
        server.kill().context("cannot kill the server")?;
        server.wait().context("cannot wait for the server")?;
        Ok(())
    }

    /// Starts a server that was killed where it was, and doesn't wait for it.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let stale = self.ready_file();
        match std::fs::remove_file(&stale) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {stale}"));
            }
            _ => {}
        }
        let server = serve(&self.program, &self.folder, &self.address, &self.options)?;
        self.server = Some(server);
        Ok(())
    }

    /// Whether the server listens. Fails if it has ended.
    pub(crate) fn is_ready(&mut self) -> Result<bool> {
        let server = self.server.as_mut().context(ELSEWHERE)?;
        if let Some(status) = server.try_wait()? {
            bail!(
                "the server ended with {status}: see {}/server.log",
                self.folder
            );
        }
        Ok(self.ready_file().exists())
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The server's process.
    pub(crate) fn server_id(&self) -> Result<u32> {
        Ok(self.server.as_ref().context(ELSEWHERE)?.id())
    }

    /// Where everything lies.
    pub(crate) fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// The folder that commands are typed in.
    pub(crate) fn work(&self) -> Utf8PathBuf {
        self.folder.join("work")
    }

    /// Does what a page of `docs/guide` shows.
    pub(crate) fn run_page(&self, root: &Utf8Path, name: &str) -> Result<()> {
        let page = root.join("docs/guide").join(format!("{name}.md"));
        let text = std::fs::read_to_string(&page).with_context(|| format!("cannot read {page}"))?;
        self.run(&blocks(&text))
    }

    /// Does what a script says, as the reader of a guide would.
    pub(crate) fn run_script(&self, script: &str) -> Result<()> {
        let status = self
            .command("bash")
            .args(["-euo", "pipefail", "-c", script])
            .status()
            .context("cannot start bash")?;
        ensure!(status.success(), "a script of ours ended with {status}");
        Ok(())
    }

    fn ready_file(&self) -> Utf8PathBuf {
        self.folder.join("ready.json")
    }

    fn wait_until_ready(&mut self) -> Result<Value> {
        let started = Instant::now();
        while !self.is_ready()? {
            ensure!(
                started.elapsed() < READY_MAX,
                "the server doesn't get ready"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let file = self.ready_file();
        let text = std::fs::read(&file).with_context(|| format!("cannot read {file}"))?;
        serde_json::from_slice(&text).with_context(|| format!("cannot read {file}"))
    }

    /// Signs in at a server for the first time, as its ready file says.
    pub(crate) fn sign_in(&mut self, ready: &Value) -> Result<()> {
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        (self.url, self.address) = (text("url"), text("address"));
        let output = self
            .command("forestage")
            .args([
                "login",
                &text("url"),
                "--ca",
                &text("ca"),
                "--user",
                "admin",
            ])
            .env("FORESTAGE_PASSWORD", text("one-time-login"))
            .env("FORESTAGE_NEW_PASSWORD", PASSWORD)
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "cannot log in: {said}");
        Ok(())
    }

    /// A program as the reader of the guide starts it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let found = match program {
            "forestage" => self.folder.join("bin/forestage"),
            other => other.into(),
        };
        let mut command = Command::new(found);
        command
            .current_dir(self.folder.join("work"))
            .env("PATH", format!("{}:{path}", self.folder.join("bin")))
            .env("EXAMPLES", &self.examples)
            .env("DATA", self.folder.join("data"))
            .env("MACHINES", COUNTY_MACHINES)
            .env("FORESTAGE_CONFIG", self.folder.join("config.json"))
            .env("FORESTAGE_CACHE", self.folder.join("cache"))
            .env("GUIDE_RAN", self.folder.join("ran"))
            .env("GUIDE_LOGS", self.folder.join("logs"))
            .env("COLUMNS", "110")
            .env_remove("FORESTAGE_PASSWORD")
            .env_remove("FORESTAGE_NEW_PASSWORD")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, blocks: &[Block]) -> Result<()> {
        let path = self.folder.join("guide.sh");
        std::fs::write(&path, script(blocks))?;
        let mut shell = self
            .command("bash")
            .arg(&path)
            .process_group(0)
            .spawn()
            .context("cannot start bash")?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = shell.try_wait()? {
                break Some(status);
            }
            if started.elapsed() > GUIDE_TIME_MAX {
                break None;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        end_group(&shell);
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("{}\nit ended with {status}", self.place(blocks)),
            None => bail!(
                "{}\nit isn't done after {} s",
                self.place(blocks),
                GUIDE_TIME_MAX.as_secs()
            ),
        }
    }

    /// The block that failed, and what it said.
    fn place(&self, blocks: &[Block]) -> String {
        let logs = self.folder.join("logs");
        let number: usize = std::fs::read_to_string(logs.join("at"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0);
        let output = std::fs::read(logs.join(format!("{number}.log"))).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let lines: Vec<&str> = output.lines().collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES_MAX)..].join("\n");
        match blocks.get(number) {
            Some(block) => format!(
                "the block at line {} failed:\n{}---\n{shown}",
                block.line, block.text
            ),
            None => shown,
        }
    }

    /// What was run, without the program's name.
    fn commands(&self) -> Result<Vec<Vec<String>>> {
        let text =
            std::fs::read_to_string(self.folder.join("ran")).context("no command was run")?;
        let words = |line: &str| {
            line.split(BETWEEN_WORDS)
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect()
        };
        Ok(text.lines().map(words).collect())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // It may have ended by itself, which the log tells.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// A server with its data and its log in this folder.
fn serve(
    forestage: &Utf8Path,
    folder: &Utf8Path,
    address: &str,
    options: &[String],
) -> Result<Child> {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(folder.join("server.log"))?;
    Command::new(forestage)
        .args(["serve", "--listen", address])
        .args(["--data", folder.join("data").as_str()])
        .args(["--ready-file", folder.join("ready.json").as_str()])
        .args(options)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start the server")
}

/// What a guide left running in the background ends with it.
fn end_group(shell: &Child) {
    let _none_is_fine = Command::new("kill")
        .args(["-KILL", "--", &format!("-{}", shell.id())])
        .stderr(Stdio::null())
        .status();
}

/// A `forestage` that notes what it was asked before it does it.
fn wrap(forestage: &Utf8Path, folder: &Utf8Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join("bin/forestage");
    let text = format!(
        "#!/bin/bash\nwords=$(printf '%s\\x1f' \"$@\")\nprintf '%s\\n' \"${{words//$'\\n'/ }}\" >> \"$GUIDE_RAN\"\n\
         exec '{forestage}' \"$@\"\n"
    );
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Block, blocks, script};

    #[test]
    fn only_sh_blocks_are_run_and_each_says_where_it_stands() {
        let text = "# A\n\n```sh\nls\n```\n\n```yaml\nsh: no\n```\n```\nno\n```\n  ```sh\nforestage a \\\n  b\n```\n";
        let found = blocks(text);
        let block = |line, text: &str| Block {
            line,
            text: text.into(),
        };
        assert_eq!(
            found,
            [block(4, "ls\n"), block(14, "forestage a \\\n  b\n")]
        );
        let script = script(&found);
        assert!(
            script.starts_with("set -euo pipefail\necho 0 >"),
            "{script}"
        );
        assert!(script.ends_with("forestage a \\\n  b\n"), "{script}");
    }
}
