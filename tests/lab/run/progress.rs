//! A line per finished step with the time since the start.

use std::{fmt::Display, time::Instant};

#[derive(Debug)]
pub(super) struct Progress(Instant);

impl Progress {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn step(&self, what: impl Display) {
        println!("{:6.1} s  {what}", self.0.elapsed().as_secs_f32());
    }
}
