//! What is pinned for an instance, and how much of it this build can use.

use crate::{
    kernel::{
        Result, bpffs,
        pinned_maps::{self, PinnedMaps},
        pins::{self, OtherBuilds},
    },
    names::Instance,
};

/// The state of an instance's pins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PinState {
    /// There are none.
    #[default]
    Absent,
    /// A crash left the directory for pins empty, for whichever instance it was made.
    Empty,
    /// There are some.
    Present(Pins),
}

/// The pins that an instance has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    /// Whether this build's programs are loaded and use the pinned maps.
    pub programs_loaded: bool,
    /// The maps of this build's layout.
    pub maps: MapState,
    /// What other builds of envnet have pinned, if they have.
    pub other_builds: Option<OtherBuilds>,
}

/// The state of the pinned maps of this build's layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MapState {
    /// There are none.
    #[default]
    Absent,
    /// All of them were read.
    Read,
    /// At least one is missing, so that none was read.
    Incomplete,
    /// One is not what this build's programs expect, so that none was read; the text says which and why.
    Unfit(String),
}

impl PinState {
    /// Whether there is any pin of the instance.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        matches!(self, Self::Present(_))
    }

    /// Whether this build's programs are loaded and pinned.
    #[must_use]
    pub const fn programs_loaded(&self) -> bool {
        matches!(self, Self::Present(pins) if pins.programs_loaded)
    }

    /// What other builds of envnet have pinned, if they have.
    #[must_use]
    pub fn other_builds(&self) -> Option<&OtherBuilds> {
        match self {
            Self::Present(pins) => pins.other_builds.as_ref(),
            Self::Absent | Self::Empty => None,
        }
    }

    /// Whether there are another build's maps that this one cannot read.
    #[must_use]
    pub fn has_other_layout(&self) -> bool {
        self.other_builds().is_some_and(|builds| !builds.layouts.is_empty())
    }

    /// Which pinned map is not what this build's programs expect, and why.
    #[must_use]
    pub fn unfit_map(&self) -> Option<&str> {
        match self {
            Self::Present(Pins {
                maps: MapState::Unfit(why),
                ..
            }) => Some(why),
            _ => None,
        }
    }

    /// Whether there are maps of this build's layout that could not be read.
    #[must_use]
    pub const fn maps_unread(&self) -> bool {
        matches!(
            self,
            Self::Present(Pins {
                maps: MapState::Incomplete | MapState::Unfit(_),
                ..
            })
        )
    }

    /// Whether there are pins, but nothing is known of what the maps hold.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        matches!(self, Self::Present(pins) if pins.maps != MapState::Read)
    }
}

/// Reads the state of the pins, and opens the maps if all of them can be used.
pub(super) fn inspect(instance: &Instance, programs_loaded: bool) -> Result<(PinState, Option<PinnedMaps>)> {
    bpffs::check_owner()?;
    if !bpffs::directory(instance).exists() {
        let empty = bpffs::is_left_empty()?;
        return Ok((if empty { PinState::Empty } else { PinState::Absent }, None));
    }
    let mut opened = None;
    let maps = if let Some(why) = pins::unfit_map(instance)? {
        MapState::Unfit(why)
    } else if let Some(maps) = PinnedMaps::open(instance)? {
        opened = Some(maps);
        MapState::Read
    } else if pinned_maps::directory(instance).exists() {
        MapState::Incomplete
    } else {
        MapState::Absent
    };
    let pins = Pins {
        programs_loaded,
        maps,
        other_builds: pins::other_builds(instance)?,
    };
    Ok((PinState::Present(pins), opened))
}
