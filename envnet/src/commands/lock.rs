//! One command at a time changes this machine: also those on different instances share `/run/netns` and the BPF filesystem.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

const PATH: &str = "/run/envnet.lock";
/// How long a command waits for another one: thousands of environments take minutes to detach.
const PATIENCE: Duration = Duration::from_mins(4);
/// How long it does so without a word.
const SILENCE: Duration = Duration::from_secs(10);

/// Held while a command changes things. The kernel releases it however the command ends; the file goes with it.
pub(super) struct Lock {
    path: PathBuf,
    #[expect(dead_code, reason = "held, never used")]
    file: File,
}

impl Lock {
    /// Waits until no other command changes this machine.
    pub(super) fn take() -> Result<Self> {
        if let Some(lock) = Self::take_within(SILENCE)? {
            return Ok(lock);
        }
        log::info!("another envnet command is at work; waiting for it");
        match Self::take_within(PATIENCE.saturating_sub(SILENCE))? {
            Some(lock) => Ok(lock),
            None => bail!(
                "another envnet command has been at work for {} minutes; wait for it and run this again",
                PATIENCE.as_secs() / 60
            ),
        }
    }

    /// The same for a while; none when another command is still at work then.
    pub(super) fn take_within(patience: Duration) -> Result<Option<Self>> {
        Self::at(Path::new(PATH), patience)
    }

    fn at(path: &Path, patience: Duration) -> Result<Option<Self>> {
        let start = Instant::now();
        loop {
            if let Some(file) = attempt(path).with_context(|| format!("cannot lock {}", path.display()))? {
                let path = path.to_owned();
                return Ok(Some(Self { path, file }));
            }
            if start.elapsed() >= patience {
                return Ok(None);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn attempt(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // Whoever held the lock before has removed the file: the lock is on something that nobody else will find.
    let current = fs::metadata(path).is_ok_and(|current| file.metadata().is_ok_and(|own| own.ino() == current.ino()));
    Ok(current.then_some(file))
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Failing leaves an empty file, which the next command uses.
        let _removed = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_want_to_wait_goes_on_without() {
        let path = std::env::temp_dir().join(format!("envnet-lock-{}", std::process::id()));
        let take = |patience| Lock::at(&path, patience).expect("a file that can be locked");
        let held = take(Duration::ZERO).expect("nobody else has it");
        assert!(take(Duration::from_millis(50)).is_none(), "held twice");
        drop(held);
        assert!(!path.exists(), "the file stays");
        assert!(take(Duration::ZERO).is_some(), "not released");
    }
}
