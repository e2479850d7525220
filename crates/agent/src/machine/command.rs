//! Programs of the target OS: in a chroot from the boot image, as they are in the OS. A process group each, killed as a
//! whole when the time is up or the run is stopped; output goes to the log line by line.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command as Process, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use camino::Utf8Path;
use rustix::process::{Pid, Signal, kill_process_group};
use sequence::ports::{Command, CommandOutput, Progress, StepError};
use sequence::secret::Secret;
use wire::event::LogLevel;

use crate::clock;

/// What is kept of stdout and stderr, each.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// Lines of one program that go to the log; the last ones are in the output anyway.
const LOG_LINES_MAX: usize = 200;
/// Of a program that printed more than that, its last words are logged as well: they say why it failed.
const LAST_LINES_MAX: usize = 20;
/// A log line is at most 2 KiB.
const LINE_BYTES_MAX: usize = 2048;
/// How long a program may tidy up after it was told to end.
const TERM_WAIT: Duration = Duration::from_secs(5);
/// A program that left a child behind may leave its pipes open; they are not waited for.
const DRAIN_WAIT: Duration = Duration::from_secs(2);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

enum Line {
    Out(Vec<u8>),
    Err(Vec<u8>),
}

/// Runs `command` with `root` as its `/`.
pub(crate) fn run(
    root: &Utf8Path,
    command: &Command,
    progress: &dyn Progress,
) -> Result<CommandOutput, StepError> {
    supervise(process(root, command), command, progress)
}

/// Starts `process` and follows it to its end.
fn supervise(
    mut process: Process,
    command: &Command,
    progress: &dyn Progress,
) -> Result<CommandOutput, StepError> {
    let mut child = process.spawn().map_err(|error| {
        StepError::new(format!("cannot start {}", command.program)).because(error)
    })?;
    let (sender, receiver) = sync_channel(256);
    read_lines(child.stdout.take(), sender.clone(), Line::Out);
    read_lines(child.stderr.take(), sender, Line::Err);
    feed(&mut child, command.stdin.clone());

    let mut output = Output {
        progress,
        stdout: Vec::new(),
        stderr: Vec::new(),
        logged: 0,
        last: VecDeque::new(),
    };
    let end = clock::uptime_ms()
        .saturating_add(u64::try_from(command.timeout.as_millis()).unwrap_or(u64::MAX / 2));
    let status = loop {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => output.take(line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => clock::pause(Duration::from_millis(20)),
        }
        let ended = child.try_wait().map_err(|error| {
            kill(&mut child);
            StepError::new(format!("cannot wait for {}", command.program)).because(error)
        })?;
        if let Some(status) = ended {
            break status;
        }
        let is_late = clock::uptime_ms() >= end;
        if is_late || progress.is_cancelled() {
            kill(&mut child);
            output.log_last();
            let why = if is_late {
                "took longer than it may"
            } else {
                "was stopped"
            };
            return Err(StepError::new(format!("{} {why}", command.program)));
        }
    };
    let drained = clock::uptime_ms() + u64::try_from(DRAIN_WAIT.as_millis()).unwrap_or(0);
    while clock::uptime_ms() < drained {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => output.take(line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    output.log_last();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let exit_code = status.code().filter(|_| status.signal().is_none());
    Ok(CommandOutput {
        exit_code,
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    })
}

fn process(root: &Utf8Path, command: &Command) -> Process {
    // We start ourselves once more to enter the chroot: doing it between fork and exec would need `unsafe`.
    let mut process = Process::new("/proc/self/exe");
    process
        .arg("chroot-exec")
        .arg(root.as_str())
        .arg(command.folder.as_str())
        .arg("--")
        .arg(&command.program);
    process.args(&command.args).env_clear();
    for (name, value) in [("PATH", PATH), ("HOME", "/root"), ("LANG", "C.UTF-8")] {
        process.env(name, value);
    }
    process.env("DEBIAN_FRONTEND", "noninteractive");
    for (name, value) in &command.env {
        process.env(name, value);
    }
    for (name, secret) in &command.secret_env {
        process.env(name, secret.expose());
    }
    process
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    process
}

/// The other side of [`run`]: enters the chroot and becomes the program. Returns only if that failed.
pub(crate) fn chroot_exec(args: &[String]) -> ExitCode {
    /// As shells have it: the program could not be started.
    const CANNOT_START: u8 = 127;
    let [root, folder, _, program, args @ ..] = args else {
        return ExitCode::from(CANNOT_START);
    };
    let entered = if root == "/" {
        Ok(())
    } else {
        rustix::process::chroot(root.as_str())
    };
    let error = match entered.and_then(|()| rustix::process::chdir(folder.as_str())) {
        Ok(()) => Process::new(program).args(args).exec(),
        Err(error) => error.into(),
    };
    // This goes to the pipe that the parent reads; if that is closed, nobody is left to tell.
    let _ = writeln!(
        std::io::stderr(),
        "cannot start {program} in {folder}: {error}"
    );
    ExitCode::from(CANNOT_START)
}

fn feed(child: &mut Child, input: Secret) {
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read all of its input is not an error of ours.
        std::thread::spawn(move || drop(stdin.write_all(input.expose().as_bytes())));
    }
}

fn read_lines(
    pipe: Option<impl Read + Send + 'static>,
    to: SyncSender<Line>,
    make: fn(Vec<u8>) -> Line,
) {
    let Some(pipe) = pipe else { return };
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        loop {
            let mut line = Vec::new();
            // A line without an end is cut, so that no program fills our memory.
            let mut limited = (&mut reader).take(LINE_BYTES_MAX as u64);
            match limited.read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if to.send(make(line)).is_err() => return,
                Ok(_) => {}
            }
        }
    });
}

struct Output<'a> {
    progress: &'a dyn Progress,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    logged: usize,
    /// The newest lines that are not logged.
    last: VecDeque<String>,
}

impl Output<'_> {
    fn take(&mut self, line: Line) {
        let (bytes, kept) = match line {
            Line::Out(bytes) => (bytes, &mut self.stdout),
            Line::Err(bytes) => (bytes, &mut self.stderr),
        };
        kept.extend_from_slice(&bytes);
        if kept.len() > KEPT_BYTES_MAX {
            kept.drain(..kept.len() - KEPT_BYTES_MAX);
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end();
        if text.is_empty() {
            return;
        }
        self.logged += 1;
        if self.logged <= LOG_LINES_MAX {
            self.progress.log(LogLevel::Info, text);
            return;
        }
        if self.logged == LOG_LINES_MAX + 1 {
            self.progress.log(
                LogLevel::Info,
                "(further output is not logged, but its last lines)",
            );
        }
        if self.last.len() >= LAST_LINES_MAX {
            self.last.pop_front();
        }
        self.last.push_back(text.to_owned());
    }

    /// Logs the last lines of a program that has ended, unless they were logged when it printed them.
    fn log_last(&mut self) {
        for line in self.last.drain(..) {
            self.progress.log(LogLevel::Info, &line);
        }
    }
}

/// Ends the program and all its children: asks first, then insists.
fn kill(child: &mut Child) {
    let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else {
        return;
    };
    // Errors here mean that the group has ended already.
    let _ = kill_process_group(group, Signal::TERM);
    clock::wait_until(TERM_WAIT, || matches!(child.try_wait(), Ok(Some(_))));
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use wire::event::ProgressUnit;

    #[derive(Default)]
    struct Listener {
        lines: Mutex<Vec<String>>,
        stop_at_first_line: bool,
        is_cancelled: AtomicBool,
    }

    impl Progress for Listener {
        fn report(&self, _current: u64, _total: u64, _unit: ProgressUnit, _message: &str) {}

        fn log(&self, _level: LogLevel, text: &str) {
            self.lines.lock().unwrap().push(text.to_owned());
            self.is_cancelled
                .store(self.stop_at_first_line, Ordering::Relaxed);
        }

        fn is_cancelled(&self) -> bool {
            self.is_cancelled.load(Ordering::Relaxed)
        }
    }

    fn check(
        script: &str,
        timeout: Duration,
        listener: &Listener,
    ) -> Result<CommandOutput, StepError> {
        let command = Command {
            program: "script".into(),
            args: Vec::new(),
            folder: "/".into(),
            stdin: Secret::new("from outside".into()),
            timeout,
            ..Command::default()
        };
        let mut process = Process::new("sh");
        process.args(["-c", script]).process_group(0);
        process
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        supervise(process, &command, listener)
    }

    #[test]
    fn output_goes_to_the_log_and_comes_back() {
        let listener = Listener::default();
        let output = check(
            "cat; echo; echo oops >&2; exit 3",
            Duration::from_secs(60),
            &listener,
        )
        .unwrap();
        assert_eq!(
            (output.exit_code, output.stdout.as_str()),
            (Some(3), "from outside\n")
        );
        assert_eq!(output.stderr, "oops\n");
        let mut lines = listener.lines.into_inner().unwrap();
        lines.sort();
        assert_eq!(lines, ["from outside", "oops"]);
    }

    #[test]
    fn much_output_is_cut_and_never_fills_memory() {
        let listener = Listener::default();
        let script = "yes 0123456789 | head -c 300000; head -c 5000 /dev/zero | tr '\\0' x";
        let output = check(script, Duration::from_secs(60), &listener).unwrap();
        assert_eq!(output.stdout.len(), KEPT_BYTES_MAX);
        assert!(output.stdout.ends_with('x'), "the last is kept");
        let lines = listener.lines.into_inner().unwrap();
        assert_eq!(lines.len(), LOG_LINES_MAX + 1 + LAST_LINES_MAX);
        assert!(
            lines.last().unwrap().ends_with('x'),
            "its last words are logged"
        );
    }

    #[test]
    fn children_end_with_the_program() {
        let error = check(
            "sleep 1000 & sleep 1000",
            Duration::from_millis(300),
            &Listener::default(),
        )
        .unwrap_err();
        assert_eq!(error.what, "script took longer than it may");
        let listener = Listener {
            stop_at_first_line: true,
            ..Listener::default()
        };
        let error = check(
            "echo $$; sleep 1000 & wait",
            Duration::from_secs(60),
            &listener,
        )
        .unwrap_err();
        assert_eq!(error.what, "script was stopped");
        let group: i32 = listener.lines.into_inner().unwrap()[0].parse().unwrap();
        let group = Pid::from_raw(group).unwrap();
        let is_gone = || rustix::process::test_kill_process_group(group).is_err();
        assert!(
            clock::wait_until(Duration::from_secs(30), is_gone),
            "nobody of the group is left"
        );
        assert_eq!(
            check("kill -9 $$", Duration::from_secs(60), &Listener::default())
                .unwrap()
                .exit_code,
            None
        );
    }
}
