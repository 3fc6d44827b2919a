//! Builds the programs in the kernel, which the command embeds.

use std::process::ExitCode;

fn main() -> ExitCode {
    match xtask::ebpf::build_for_embedding() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Cargo repeats this first, and after it what the compiler wrote to standard error.
            println!("cargo::error={error:#}");
            ExitCode::FAILURE
        }
    }
}
