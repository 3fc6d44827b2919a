//! What goes wrong when envnet asks something of the kernel.

use std::{error, io, iter, result};

use aya::{
    EbpfError,
    maps::{MapError, xdp::XdpMapError},
    pin::PinError,
    programs::{ProgramError, links::LinkError},
};

use super::programs::Obstacle;

/// The result of asking the kernel.
pub type Result<T, E = Error> = result::Result<T, E>;

/// Why something cannot be had of the kernel. As usual, a message does not repeat its cause's; [`Error::with_causes`] tells all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something failed for a reason that the source says.
    #[error("{what}")]
    Failed {
        /// What cannot be done, or what is wrong.
        what: String,
        /// Why.
        source: Box<Self>,
    },
    /// Something is not there, or is not what it has to be; the text says all.
    #[error("{0}")]
    Unexpected(String),
    /// Something of somebody else's is where a program would be attached.
    #[error(transparent)]
    Obstacle(#[from] Obstacle),
    /// A system call, by the standard library.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A system call, by nix.
    #[error(transparent)]
    Nix(#[from] nix::Error),
    /// A map.
    #[error(transparent)]
    Map(#[from] MapError),
    /// A map that XDP sends frames by.
    #[error(transparent)]
    XdpMap(#[from] XdpMapError),
    /// A program.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A link between a program and an interface.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A pin.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The object with all programs and maps.
    #[error(transparent)]
    Object(#[from] EbpfError),
    /// Routing netlink, other than by a number of the kernel's.
    #[error(transparent)]
    Netlink(#[from] rtnetlink::Error),
}

impl Error {
    /// The number of the system call's error that is at the bottom of this, if one is.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        let outermost: &(dyn error::Error + 'static) = match self {
            Self::Failed { source, .. } => return source.errno(),
            Self::Nix(number) => return Some(*number as i32),
            Self::Unexpected(_) | Self::Obstacle(_) | Self::Netlink(_) => return None,
            Self::Io(error) => error,
            Self::Map(error) => error,
            Self::XdpMap(error) => error,
            Self::Program(error) => error,
            Self::Link(error) => error,
            Self::Pin(error) => error,
            Self::Object(error) => error,
        };
        chain(outermost).find_map(|cause| cause.downcast_ref::<io::Error>()?.raw_os_error())
    }

    /// The message with those of all causes, as the user reads it.
    #[must_use]
    pub fn with_causes(&self) -> String {
        let messages: Vec<String> = chain(self).map(ToString::to_string).collect();
        messages.join(": ")
    }
}

/// An error and its causes.
fn chain<'a>(error: &'a (dyn error::Error + 'static)) -> impl Iterator<Item = &'a (dyn error::Error + 'static)> {
    iter::successors(Some(error), |error| error.source())
}

/// Says in the user's words what has failed.
pub(crate) trait Explain<T> {
    /// Makes this the message of an error; what was the error so far is its cause. Nothing, where a value is needed, has none.
    fn explain<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Error>> Explain<T> for Result<T, E> {
    fn explain<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::Failed {
            what: what().into(),
            source: Box::new(error.into()),
        })
    }
}

impl<T> Explain<T> for Option<T> {
    fn explain<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.ok_or_else(|| Error::Unexpected(what().into()))
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    fn failed<E: Into<Error>>(error: E) -> Error {
        let result: Result<(), E> = Err(error);
        result.explain(|| "cannot do it").expect_err("it failed")
    }

    fn number() -> io::Error {
        io::Error::from_raw_os_error(libc::ENOMEM)
    }

    #[test]
    fn each_message_is_told_once_as_at_the_edge() {
        let reason = number().to_string();
        let call = aya::sys::SyscallError {
            call: "bpf_map_update_elem",
            io_error: number(),
        };
        for (error, expected) in [
            (failed(number()), format!("cannot do it: {reason}")),
            (
                failed(MapError::SyscallError(call)),
                format!("cannot do it: `bpf_map_update_elem` failed: {reason}"),
            ),
            (
                failed(failed(Errno::EBUSY)),
                format!("cannot do it: cannot do it: {}", Errno::EBUSY),
            ),
            (
                None::<()>.explain(|| "br1 is gone").expect_err("nothing"),
                "br1 is gone".to_owned(),
            ),
        ] {
            assert_eq!(error.with_causes(), expected);
            assert_eq!(format!("{:#}", anyhow::Error::from(error)), expected);
        }
    }

    #[test]
    fn the_number_is_found_at_the_bottom() {
        let create = MapError::CreateError {
            name: "FDB".to_owned(),
            io_error: number(),
        };
        for error in [
            failed(failed(number())),
            failed(Errno::ENOMEM),
            failed(create),
            number().into(),
        ] {
            assert_eq!(error.errno(), Some(libc::ENOMEM), "{}", error.with_causes());
        }
        assert_eq!(failed(MapError::KeyNotFound).errno(), None);
        assert_eq!(Error::Unexpected("gone".to_owned()).errno(), None);
    }
}
