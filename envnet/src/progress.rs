//! A progress bar on standard error for what takes over a second, when that is a terminal.

use std::{
    sync::Once,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Nobody needs to see how far something is that is done in this time.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far a command is; gone from the terminal when it is dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    start: Instant,
    /// Done already when the bar is not to be shown.
    shown: Once,
}

impl Progress {
    /// For so many steps, of which each will be told by [`Progress::step`]. A quiet one never shows anything.
    #[must_use]
    pub fn new(steps: usize, quiet: bool) -> Self {
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len} changes, {eta} left");
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::hidden());
        let shown = Once::new();
        if quiet {
            shown.call_once(|| {});
        }
        Self {
            bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
            start: Instant::now(),
            shown,
        }
    }

    /// One step is done.
    pub fn step(&self) {
        if self.start.elapsed() > PATIENCE {
            self.shown
                .call_once(|| self.bar.set_draw_target(ProgressDrawTarget::stderr()));
        }
        self.bar.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
