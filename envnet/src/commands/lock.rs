//! One command at a time changes this machine: also those on different instances share `/run/netns` and the BPF filesystem.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

const PATH: &str = "/run/envnet.lock";
/// How long a command waits for another one.
const PATIENCE: Duration = Duration::from_mins(1);

/// Held while a command changes things. The kernel releases it however the command ends; the file goes with it.
pub(super) struct Lock(#[expect(dead_code, reason = "held, never used")] File);

impl Lock {
    /// Waits until no other command changes this machine.
    pub(super) fn take() -> Result<Self> {
        let start = Instant::now();
        loop {
            match attempt().with_context(|| format!("cannot lock {PATH}"))? {
                Some(file) => return Ok(Self(file)),
                None if start.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
                None => bail!(
                    "another envnet command has been at work for {} s; wait for it and run this again",
                    PATIENCE.as_secs()
                ),
            }
        }
    }
}

fn attempt() -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(PATH)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Whoever held the lock before has removed the file: the lock is on something that nobody else will find.
    let current = fs::metadata(PATH).is_ok_and(|current| file.metadata().is_ok_and(|own| own.ino() == current.ino()));
    Ok(current.then_some(file))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Failing leaves an empty file, which the next command uses.
        let _removed = fs::remove_file(PATH);
    }
}
