//! The command line.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{config::Environments, kernel::programs::Hook};

/// Networks for copies of virtual machines that all have the same addresses.
///
/// Every copy (environment) of the machines in the configuration gets a bridge, a router and taps of its own. Nothing in the
/// machines is changed; each is reached from outside at an address of its own: 10.0.0.V of environment E at, say, 172.16.E.V.
#[derive(Clone, Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "Exit status: 0 done, 1 failed, 2 bad usage or configuration."
)]
pub struct Cli {
    /// Configuration file, instead of ./envnet.toml
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Manage this network namespace as if it were the host
    #[arg(long, global = true, value_name = "NAME")]
    pub netns: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say each step that is taken; `RUST_LOG` chooses more finely
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// Attach the programs this way instead of the best one the kernel has
    #[arg(long, global = true, hide = true, value_name = "HOOK")]
    pub hook: Option<Hook>,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Where the configuration file is.
    #[must_use]
    pub fn configuration(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new("envnet.toml"))
    }

    /// How the command is called again for the same host and file.
    fn again(&self) -> String {
        let mut words = vec!["envnet".to_owned()];
        if let Some(netns) = &self.netns {
            words.extend(["--netns".to_owned(), netns.clone()]);
        }
        if let Some(config) = &self.config {
            words.extend(["--config".to_owned(), config.display().to_string()]);
        }
        words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }

    /// A message whose hints are for the same host and file: where something is found out, it is not known how the command was
    /// called.
    #[must_use]
    pub fn with_hints(&self, message: &str) -> String {
        let again = self.again();
        let mut message = message.to_owned();
        for command in ["attach", "detach", "plan", "status"] {
            message = message.replace(&format!("`envnet {command}"), &format!("`{again} {command}"));
        }
        if let Some(netns) = &self.netns {
            message = message.replace("`ip link", &format!("`ip -n {} link", quoted(netns)));
        }
        message
    }
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Make the network what the configuration says; only what differs is changed
    Attach(Selection),
    /// Remove everything envnet has made; needs no configuration
    Detach(Selection),
    /// Show environments, guests, counters and drops
    Status(Status),
    /// Show what `attach` would change, and change nothing
    ///
    /// What is marked + is made, ~ changed, - removed. What all environments share is shown first, then each environment;
    /// `attach` works on many at a time, and removes whole environments last.
    Plan(Selection),
    /// Check the configuration file without looking at the host; needs no root
    Check,
}

impl Command {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Attach(_) => "attach",
            Self::Detach(_) => "detach",
            Self::Status(_) => "status",
            Self::Plan(_) => "plan",
            Self::Check => "check",
        }
    }
}

/// Which environments a command is about.
#[derive(Clone, Debug, Args)]
pub struct Selection {
    /// Only these environments, as in "1-3, 7"; all others stay as they are
    #[arg(long, value_name = "LIST")]
    pub environments: Option<Environments>,
}

/// Options of `status`.
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Only these environments, as in "1-3, 7"
    #[arg(long, value_name = "LIST")]
    pub environments: Option<Environments>,
    /// Do not look into each environment whether everything is there, only at the maps and the host's links; this is the
    /// default for more than a thousand
    #[arg(long)]
    pub brief: bool,
    /// Then print each packet that is dropped (with --verbose: or translated), until Ctrl-C
    #[arg(long)]
    pub log: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_for_the_same_host_and_file() {
        let again = |arguments: &[&str]| Cli::parse_from(arguments).again();
        assert_eq!(again(&["envnet", "status"]), "envnet");
        assert_eq!(
            again(&["envnet", "plan", "-c", "/etc/envnet/envnet.toml", "--netns", "lab"]),
            "envnet --netns lab --config /etc/envnet/envnet.toml"
        );
        assert_eq!(
            again(&["envnet", "plan", "-c", "it's mine.toml"]),
            r"envnet --config 'it'\''s mine.toml'"
        );
    }

    #[test]
    fn hints_are_for_the_same_host_and_file() {
        let hint = |arguments: &[&str], message| Cli::parse_from(arguments).with_hints(message);
        let message = "gone; `envnet attach` mends it, see `ip link`, and `envnet check`";
        assert_eq!(hint(&["envnet", "plan"], message), message);
        assert_eq!(
            hint(&["envnet", "plan", "--netns", "lab"], message),
            "gone; `envnet --netns lab attach` mends it, see `ip -n lab link`, and `envnet check`"
        );
    }

    #[test]
    fn commands_are_called_what_they_are() {
        for name in ["attach", "detach", "status", "plan", "check"] {
            assert_eq!(Cli::parse_from(["envnet", name]).command.name(), name);
        }
    }
}
