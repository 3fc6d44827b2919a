//! Builds the benchmark's own programs in the kernel.

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
