//! The soak test as a command; `cargo xtask soak` builds and starts it.

use std::process::ExitCode;

use clap::Parser;
use envnet_soak::Options;

/// Changes, kills, damages and uses environments at random, and checks all the time that nothing is lost or left.
#[derive(Debug, Parser)]
#[command(name = "envnet-soak")]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match envnet_soak::run(&Arguments::parse().options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("envnet-soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}
