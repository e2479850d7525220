//! The plain log: one line per event and milestone on the first serial port, for people with a cable and for tests.
//!
//! A line reads `FORESTAGE <seconds.millis> <kind> <json>`. It is written by a thread of its own, so that a serial port
//! that does not drain never holds up a machine. Nothing secret is ever in an event, and nothing else is written here.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use serde_json::{Value, json};
use wire::event::Event;

use crate::clock;

/// Lines that wait for the port; more are dropped. A slow port (9600 baud) drains a thousand lines in two minutes.
const LINES_MAX: usize = 1000;
/// How long a shutdown waits for the last lines.
const FLUSH_WAIT: Duration = Duration::from_secs(2);

enum Message {
    Line(String),
    Flush(SyncSender<()>),
}

static SENDER: OnceLock<SyncSender<Message>> = OnceLock::new();

/// Opens the port and starts the thread. Called once.
pub(crate) fn start() {
    let (sender, receiver) = sync_channel(LINES_MAX);
    if SENDER.set(sender).is_err() {
        return;
    }
    // Without the thread, lines are dropped: the log is for onlookers, the journal is the record.
    let _ = std::thread::Builder::new()
        .name("log".into())
        .spawn(move || write_lines(&receiver));
}

fn write_lines(receiver: &Receiver<Message>) {
    // NOCTTY: a serial port must not become our terminal, whose hang-up would end us.
    let no_terminal = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap_or(0);
    let mut port = OpenOptions::new()
        .write(true)
        .custom_flags(no_terminal)
        .open("/dev/ttyS0")
        .ok();
    if let Some(port) = &mut port {
        // Firmware leaves its cursor anywhere. If this fails, so does the first line, and that is handled.
        let _ = port.write_all(b"\r\n");
    }
    for message in receiver {
        match message {
            Message::Line(line) => {
                let wrote = port
                    .as_mut()
                    .is_some_and(|port| port.write_all(format!("{line}\r\n").as_bytes()).is_ok());
                if !wrote {
                    port = None;
                    write_kernel_log(&line);
                }
            }
            // The one who asked may have stopped waiting.
            Message::Flush(done) => drop(done.send(())),
        }
    }
}

/// The kernel's log is the fallback: it reaches whatever console there is.
fn write_kernel_log(line: &str) {
    /// The kernel cuts longer records.
    const RECORD_BYTES_MAX: usize = 900;
    let cut: String = line.chars().take(RECORD_BYTES_MAX).collect();
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // There is nowhere left to report a failure to.
        let _ = log.write_all(format!("<6>{cut}").as_bytes());
    }
}

fn line(kind: &str, json: &str) -> String {
    let uptime = clock::uptime_ms();
    format!(
        "FORESTAGE {}.{:03} {kind} {json}",
        uptime / 1000,
        uptime % 1000
    )
}

fn send(line: String) {
    if let Some(sender) = SENDER.get() {
        // A full queue means that the port does not drain.
        let _ = sender.try_send(Message::Line(line));
    }
}

/// Something a test or a person waits for; `more` is a JSON object.
pub(crate) fn milestone(at: &str, more: Value) {
    let mut object = json!({ "at": at });
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    send(line("milestone", &object.to_string()));
}

/// An event of the run.
pub(crate) fn event(event: &Event) {
    if let Ok(json) = serde_json::to_string(event) {
        send(line("event", &json));
    }
}

/// A remark that belongs to no run, such as a module that did not load.
pub(crate) fn note(text: &str) {
    send(line("note", &json!({ "text": text }).to_string()));
}

/// An error that does not end anything: the whole chain, and why going on is right.
pub(crate) fn warn(what: &str, error: &anyhow::Error) {
    note(&format!("{what}: {error:#}"));
}

/// Waits (for a short while) until the lines so far are written.
pub(crate) fn flush() {
    let Some(sender) = SENDER.get() else { return };
    let (done, wait) = sync_channel(1);
    if sender.try_send(Message::Flush(done)).is_ok() {
        // A port that does not drain must not keep the machine from powering off.
        let _ = wait.recv_timeout(FLUSH_WAIT);
    }
}
