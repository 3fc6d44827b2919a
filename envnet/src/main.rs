//! The command `envnet`. Exit status: 0 done, 1 failed, 2 bad usage or configuration.

use std::process::ExitCode;

use clap::Parser as _;
use envnet::{cli::Cli, commands, config::ConfigError};
use nix::sys::signal::{SigHandler, Signal, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    // `envnet plan | head` should end quietly; Rust ignores SIGPIPE and would panic on the next line.
    // SAFETY: the default action replaces "ignore"; no handler of ours is involved.
    let restored = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    debug_assert!(restored.is_ok(), "SIGPIPE has a default action");
    let cli = Cli::parse();
    let level = if cli.verbose {
        log::LevelFilter::Debug
    } else {
        log::LevelFilter::Info
    };
    env_logger::Builder::new()
        .filter_module("envnet", level)
        .filter_module("router", level)
        .parse_default_env()
        .format_timestamp(None)
        .format_target(false)
        .init();
    match commands::run(&cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("envnet: {}", cli.with_hints(&format!("{error:#}")));
            let configuration = error.downcast_ref::<ConfigError>().is_some();
            ExitCode::from(if configuration { 2 } else { 1 })
        }
    }
}
