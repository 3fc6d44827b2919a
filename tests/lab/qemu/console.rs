//! A guest's serial console: lines in, lines out.

use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, ChildStdout},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// Every line of the guest's protocol starts so; everything else is the firmware's and the kernel's.
const PREFIX: &str = "guest: ";
const SLICE: Duration = Duration::from_millis(50);
/// Lines of other output that an error message shows.
const LAST_LINES: usize = 8;

#[derive(Debug)]
pub(super) struct Console {
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    last: Vec<String>,
}

impl Console {
    pub(super) fn open(input: ChildStdin, output: ChildStdout) -> Self {
        let (sender, lines) = mpsc::channel();
        // The thread ends with the process at the other end of the pipe.
        thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim().to_owned();
                line.clear();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Self {
            input,
            lines,
            last: Vec::new(),
        }
    }

    /// The next line of any kind that `wanted` accepts.
    pub(super) fn line(&mut self, patience: Duration, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let end = Instant::now() + patience;
        loop {
            interrupt::check()?;
            match self.lines.recv_timeout(SLICE) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(line) => {
                    if self.last.len() == LAST_LINES {
                        self.last.remove(0);
                    }
                    self.last.push(line);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < end => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "the guest's console is silent after {} s; {}",
                        patience.as_secs_f32(),
                        self.context()
                    );
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the guest is gone; {}", self.context()),
            }
        }
    }

    /// The next line of the guest's protocol, without its prefix. A failure that the guest reports is an error.
    pub(super) fn answer(&mut self, patience: Duration) -> Result<String> {
        let line = self.line(patience, |line| line.starts_with(PREFIX))?;
        let answer = line.trim_start_matches(PREFIX);
        if let Some(failure) = answer.strip_prefix("failed: ") {
            bail!("the guest reports: {failure}");
        }
        Ok(answer.to_owned())
    }

    /// Sends a command and collects the output that the guest prints before it is done.
    pub(super) fn command(&mut self, command: &str, patience: Duration) -> Result<String> {
        writeln!(self.input, "{command}").context("the guest's console takes no input")?;
        self.input.flush().context("the guest's console takes no input")?;
        let mut output = String::new();
        loop {
            match self
                .answer(patience)
                .with_context(|| format!("guest command `{command}`"))?
                .as_str()
            {
                "done" => return Ok(output),
                answer => {
                    output.push_str(answer.trim_start_matches("output").trim_start());
                    output.push('\n');
                }
            }
        }
    }

    fn context(&self) -> String {
        format!("its last words: {:?}", self.last)
    }
}
