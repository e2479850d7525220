//! QEMU's monitor (QMP): a line of JSON for each question and each answer.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use camino::Utf8Path;
use serde_json::{Value, json};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the monitor of one machine, which has one at a time.
pub(crate) struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

impl Monitor {
    pub(crate) fn open(socket: &Utf8Path) -> Result<Self> {
        let writer = UnixStream::connect(socket).context("cannot reach QEMU's monitor")?;
        writer.set_read_timeout(Some(PATIENCE))?;
        let mut reader = BufReader::new(writer.try_clone()?);
        let mut greeting = String::new();
        reader.read_line(&mut greeting)?;
        let mut monitor = Self { reader, writer };
        monitor.ask(&json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, request: &Value) -> Result<()> {
        writeln!(self.writer, "{request}")?;
        let mut line = String::new();
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                bail!("QEMU's monitor hung up");
            }
            let reply: Value = serde_json::from_str(&line)?;
            if reply.get("error").is_some() {
                bail!("QEMU refused: {reply}");
            }
            if reply.get("return").is_some() {
                return Ok(());
            }
        }
    }
}
