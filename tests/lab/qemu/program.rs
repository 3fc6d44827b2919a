//! The QEMU that PATH leads to, and the folders of its firmware.

use std::{env, ffi::OsString, path::PathBuf, process::Command};

/// QEMU's name.
const NAME: &str = "qemu-system-x86_64";
/// Folders of firmware below the prefix that QEMU was unpacked to. Some builds only look below /usr.
const FIRMWARE: [&str; 2] = ["share/qemu", "share/seabios"];

/// QEMU, started by `command`, with the options that let it find its firmware wherever it is.
pub(crate) fn qemu(command: impl FnOnce(&'static str) -> Command) -> Command {
    let mut qemu = command(NAME);
    for folder in firmware() {
        qemu.arg("-L").arg(folder);
    }
    qemu
}

fn firmware() -> Vec<PathBuf> {
    let path: OsString = env::var_os("PATH").unwrap_or_default();
    let program = env::split_paths(&path).find_map(|folder| folder.join(NAME).canonicalize().ok());
    // The program is in `bin` below the prefix.
    let prefix = program.as_deref().and_then(|program| program.parent()?.parent());
    let folders = prefix.map(|prefix| FIRMWARE.map(|folder| prefix.join(folder)));
    folders.into_iter().flatten().filter(|folder| folder.is_dir()).collect()
}
