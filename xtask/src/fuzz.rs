//! The verb `fuzz`: random packets through the programs, the pure translation or iptables, compared with the model.

use std::{fs, os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Error, Result, ensure};
use clap::Args;

use xtask::process::{Privilege, cargo, check, find, output};

use crate::{build, setup, target_dir};

/// What libFuzzer needs to see where a run has been: counters at every edge, and the operands of comparisons. These are
/// LLVM's own options, so any toolchain has them.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1";
/// Longer than all headers of an error with the packet inside it and an extension.
const LONGEST: u32 = 600;

/// Options of the verb `fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How long to go on.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Make the same packets again; every run prints its seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Only the translation itself, without the kernel and without root, guided by coverage (libFuzzer).
    #[arg(long, conflicts_with = "differential")]
    pure: bool,
    /// Send packets through a router with iptables and one with envnet, and compare what comes out.
    #[arg(long)]
    differential: bool,
}

/// The verb `fuzz`; returns only when the fuzzer cannot be started.
pub(crate) fn fuzz(options: &Options) -> Result<()> {
    let mut command = if options.pure {
        guided_by_coverage(options)?
    } else {
        with_the_kernel(options)?
    };
    // In place of this process: Ctrl-C and the exit status are then the fuzzer's own.
    let name = command.get_program().to_owned();
    Err(Error::new(command.exec()).context(format!("{} does not start", name.display())))
}

fn with_the_kernel(options: &Options) -> Result<Command> {
    let privilege = Privilege::find("the fuzzer (eBPF)")?;
    if options.differential {
        setup::network_tests()?;
    }
    let mut command = privilege.command(build::release(&["envnet-fuzz"])?.join("envnet-fuzz"));
    command.arg("--seconds").arg(options.seconds.to_string());
    if let Some(seed) = options.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    if options.differential {
        command.arg("--differential");
    }
    Ok(command)
}

fn guided_by_coverage(options: &Options) -> Result<Command> {
    ensure!(
        find("c++").is_some(),
        "libFuzzer is C++ and there is no c++ in PATH; install a C++ compiler (in most distributions g++ or gcc-c++)"
    );
    let machine = output(Command::new("rustc").arg("-vV"))?;
    let machine = machine
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("rustc does not say what machine it runs on")?;
    let arguments = [
        "build",
        "--release",
        "--package",
        "envnet-fuzz",
        "--bin",
        "envnet-fuzz-coverage",
        "--no-default-features",
        "--features",
        "coverage",
        // With a target, build scripts and procedural macros are not instrumented.
        "--target",
        machine,
    ];
    check(cargo().args(arguments).env("RUSTFLAGS", INSTRUMENTATION))?;
    let target = target_dir()?;
    // What has led to new code is kept for the next time.
    let (corpus, failures) = (target.join("fuzz-corpus"), target.join("fuzz-failures"));
    for folder in [&corpus, &failures] {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let mut command = Command::new(target.join(machine).join("release/envnet-fuzz-coverage"));
    command
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-max_len={LONGEST}"))
        .arg(format!("-artifact_prefix={}/", failures.display()))
        .arg("-print_final_stats=1");
    if let Some(seed) = options.seed {
        command.arg(format!(
            "-seed={}",
            u32::try_from(seed).context("libFuzzer's seeds have 32 bits")?
        ));
    }
    command.arg(corpus);
    Ok(command)
}
