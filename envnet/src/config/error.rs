//! Errors that name file, line and key, and the way out.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use super::Environments;

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration; name another file with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML, or not of the right shape: an unknown key, a missing one, a value of the wrong type.
    #[error("{}:{line}: {}{message}", path.display(), key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key on that line, if it has one.
        key: Option<String>,
        /// What is wrong and what is expected.
        message: String,
    },
    /// A value contradicts another one.
    #[error("{}:{line}: {key}: {message}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key in full, `addresses.router` or `vm[1].address`.
        key: String,
        /// What is wrong and how to mend it.
        message: String,
    },
    /// A part of the environments was asked for that the file does not have.
    #[error("{}: `environments` has no {}; add what is missing, or leave it out of --environments", path.display(), missing.named())]
    NoEnvironment {
        /// The file.
        path: PathBuf,
        /// What is not there.
        missing: Environments,
    },
}

impl ConfigError {
    pub(super) fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start);
        let on_line = text[line_start(text, start)..].lines().next().unwrap_or_default();
        let value = error.span().and_then(|span| text.get(span)).unwrap_or_default();
        let message = error.message().trim_end().replace('\n', "; ");
        let message = match message.as_str() {
            _ if on_line.trim() == "[vm]" => "write [[vm]], in two brackets: there can be many".to_owned(),
            "invalid IPv4 address syntax" => format!("{value} is not an IPv4 address; write one like \"10.0.0.2\""),
            _ => message,
        };
        Self::Syntax {
            path: path.to_owned(),
            line: line_of(text, start),
            key: on_line.split_once('=').map(|(key, _)| key.trim().to_owned()),
            message,
        }
    }
}

/// A problem found by a check, before it is known which file it is in.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) key: String,
    pub(super) span: Range<usize>,
    pub(super) message: String,
}

impl Problem {
    pub(super) fn at(self, path: &Path, text: &str) -> ConfigError {
        ConfigError::Value {
            path: path.to_owned(),
            line: line_of(text, self.span.start),
            key: self.key,
            message: self.message,
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())].matches('\n').count() + 1
}

fn line_start(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())]
        .rfind('\n')
        .map_or(0, |newline| newline + 1)
}
