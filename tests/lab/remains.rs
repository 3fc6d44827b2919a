//! What a laboratory leaves that was killed by SIGKILL, cleared by the next one.
//!
//! Everything is named after the laboratory's process, so that what belongs to a living one is told from what does not.

use std::{env, fs, io::ErrorKind, path::Path};

use anyhow::Result;

use crate::{envnet::Envnet, namespace};

/// Every name the laboratory gives begins so; the process's number follows.
pub const PREFIX: &str = "envnet-lab-";

/// Removes environments, namespaces and folders of laboratories whose process is gone.
pub fn clear() -> Result<()> {
    for name in namespace::names()?.iter().filter(|name| is_dead(name)) {
        // Only a host's namespace has something attached; for any other this does nothing.
        if let Ok(envnet) = Envnet::find(name, Path::new("envnet.toml"), None) {
            envnet.run("detach")?;
        }
    }
    // Read again: detach has removed the routers' namespaces.
    for name in namespace::names()?.iter().filter(|name| is_dead(name)) {
        namespace::remove(name);
    }
    for entry in fs::read_dir(env::temp_dir())? {
        let entry = entry?;
        if is_dead(&entry.file_name().to_string_lossy()) {
            match fs::remove_dir_all(entry.path()) {
                // Another laboratory clears at the same time.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
    }
    Ok(())
}

fn is_dead(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let process = rest.split('-').next().unwrap_or_default();
    process.parse::<u32>().is_ok() && !Path::new("/proc").join(process).exists()
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn only_names_of_ended_processes_are_dead() {
        // Above the kernel's highest process number.
        assert!(is_dead("envnet-lab-4194305"));
        assert!(is_dead("envnet-lab-4194305-2-ns1"));
        assert!(!is_dead(&format!("{PREFIX}{}-out", process::id())));
        assert!(!is_dead("envnet-lab-"));
        assert!(!is_dead("somebody-elses-4194305"));
    }
}
