//! QEMU's machine protocol: one JSON object per line, a reply per command, events in between.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::interrupt;

const PATIENCE: Duration = Duration::from_secs(30);
const SLICE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Qmp {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
    /// A line that has not ended yet.
    partial: Vec<u8>,
}

impl Qmp {
    /// Greets QEMU at the other end of the socket.
    pub(super) fn connect(socket: UnixStream) -> Result<Self> {
        socket.set_read_timeout(Some(SLICE))?;
        let reader = BufReader::new(socket.try_clone()?);
        let mut qmp = Self {
            writer: socket,
            reader,
            partial: Vec::new(),
        };
        let greeting = qmp.message()?;
        if greeting.get("QMP").is_none() {
            bail!("QEMU greets with {greeting}");
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns what it returned.
    pub(super) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        writeln!(self.writer, "{request}").with_context(|| format!("QEMU does not take `{command}`"))?;
        loop {
            let mut message = self.message().with_context(|| format!("QEMU command `{command}`"))?;
            if let Some(error) = message.get("error") {
                bail!("QEMU refuses `{command}`: {}", error["desc"]);
            }
            if message.get("return").is_some() {
                return Ok(message["return"].take());
            }
            // An event.
        }
    }

    fn message(&mut self) -> Result<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            interrupt::check()?;
            match self.reader.read_until(b'\n', &mut self.partial) {
                Ok(0) => bail!("QEMU closed its control socket"),
                Ok(_) => {
                    let message = serde_json::from_slice(&self.partial).context("QEMU does not speak JSON");
                    self.partial.clear();
                    return message;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(error).context("QEMU's control socket"),
            }
            if Instant::now() >= end {
                bail!("QEMU does not answer");
            }
        }
    }
}
