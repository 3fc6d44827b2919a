//! The verb `test`: layers from pure functions to cloned machines, each run whatever became of the one before.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use xtask::process::{Privilege, cargo, check, describe};

use crate::{kernel::Kernel, libtest::Tally, setup, target_dir};

/// Options of the verb `test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only this layer; can be given more than once.
    #[arg(long, value_enum)]
    layer: Vec<Layer>,
    /// Run rows and namespaces under this kernel in QEMU, not under the running one; can be given more than once.
    #[arg(long, value_enum)]
    kernel: Vec<Kernel>,
}

/// What is tested, from the inside out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layer {
    /// Functions and examples in the documentation, without a kernel.
    Units,
    /// Single packets through the loaded programs.
    Rows,
    /// Environments end to end, with namespaces for guests.
    Namespaces,
    /// Environments that are changed, taken over, damaged and killed half-way.
    Lifecycle,
    /// Environments end to end, with clones of one running machine.
    Clones,
}

/// Packages with unit tests.
const UNITS: [&str; 12] = [
    "--package",
    "envnet-common",
    "--package",
    "envnet-fuzz",
    "--package",
    "envnet-model",
    "--package",
    "envnet",
    "--package",
    "envnet-lab",
    "--package",
    "xtask",
];

/// What is of interest under another kernel: does it load the programs, and do they work there?
const LAYERS_IN_KERNELS: [Layer; 2] = [Layer::Rows, Layer::Namespaces];

/// The verb `test`.
pub(crate) fn test(options: &Options) -> Result<()> {
    let layers = match options.layer.as_slice() {
        [] if options.kernel.is_empty() => Layer::value_variants(),
        [] => &LAYERS_IN_KERNELS,
        layers => layers,
    };
    let kernels: Vec<_> = match options.kernel.as_slice() {
        [] => vec![None],
        kernels => kernels.iter().copied().map(Some).collect(),
    };
    let mut outcomes = Vec::new();
    for kernel in kernels {
        for &layer in layers {
            ensure!(
                kernel.is_none() || LAYERS_IN_KERNELS.contains(&layer),
                "the layer {} does not run under other kernels; leave out --kernel",
                layer.name()
            );
            outcomes.push(Outcome::of(layer, kernel));
        }
    }

    println!(
        "\n{:<19}{:>8}{:>8}{:>9}{:>10}",
        "layer", "passed", "failed", "ignored", "seconds"
    );
    for Outcome {
        name,
        tally,
        elapsed,
        error,
    } in &outcomes
    {
        let Tally {
            passed,
            failed,
            ignored,
            ..
        } = tally;
        println!(
            "{name:<19}{passed:>8}{failed:>8}{ignored:>9}{:>10.1}",
            elapsed.as_secs_f64()
        );
        if let Some(error) = error {
            println!("  {error}");
        }
    }
    let total: Tally = outcomes.iter().map(|outcome| outcome.tally).sum();
    // A layer that broke off has failed, even if none of its tests could say so.
    let silent = outcomes
        .iter()
        .filter(|outcome| outcome.error.is_some() && outcome.tally.failed == 0)
        .count();
    println!(
        "\n{} passed, {} failed, {} skipped",
        total.passed,
        total.failed as usize + silent,
        total.ignored
    );
    let broken: Vec<_> = outcomes
        .iter()
        .filter(|outcome| outcome.error.is_some())
        .map(|outcome| outcome.name.as_str())
        .collect();
    if broken.is_empty() {
        Ok(())
    } else {
        bail!("these layers failed: {}", broken.join(", "))
    }
}

/// What became of a layer.
struct Outcome {
    name: String,
    tally: Tally,
    elapsed: Duration,
    error: Option<String>,
}

impl Outcome {
    fn of(layer: Layer, kernel: Option<Kernel>) -> Self {
        let start = Instant::now();
        let name = kernel.map_or_else(
            || layer.name().to_owned(),
            |kernel| format!("{} on {}", layer.name(), kernel.name()),
        );
        println!("\n=== {name} ===");
        let mut tally = Tally::default();
        let error = layer.run(kernel, &mut tally).err().map(|error| format!("{error:#}"));
        Self {
            name,
            tally,
            elapsed: start.elapsed(),
            error,
        }
    }
}

impl Layer {
    const fn name(self) -> &'static str {
        match self {
            Self::Units => "units",
            Self::Rows => "rows",
            Self::Namespaces => "namespaces",
            Self::Lifecycle => "lifecycle",
            Self::Clones => "clones",
        }
    }

    /// The test programs of the laboratory that make up the layer.
    const fn tests(self) -> &'static [&'static str] {
        match self {
            Self::Units => &[],
            Self::Rows => &["rows", "model"],
            Self::Namespaces => &["namespaces"],
            Self::Lifecycle => &["lifecycle"],
            Self::Clones => &["clones"],
        }
    }

    /// Runs the layer, adding its results to `tally`; an error unless all of it ran and passed.
    fn run(self, kernel: Option<Kernel>, tally: &mut Tally) -> Result<()> {
        self.set_up()?;
        let mut failures = Vec::new();
        for mut command in self.commands(kernel)? {
            if !stream(&mut command, tally)? {
                failures.push(describe(&command));
            }
        }
        if tally.started != tally.finished {
            failures.push(format!(
                "{} of {} test programs did not finish",
                tally.started - tally.finished,
                tally.started
            ));
        }
        if tally.passed + tally.failed == 0 {
            failures.push("no test ran".to_owned());
        }
        if failures.is_empty() {
            Ok(())
        } else {
            bail!("failed: {}", failures.join("; "))
        }
    }

    fn set_up(self) -> Result<()> {
        setup::compiler()?;
        if self != Self::Units {
            setup::network()?;
            // The tests use the command as people do.
            check(cargo().args(["build", "--package", "envnet"]))?;
        }
        if self == Self::Clones {
            setup::guests()?;
        }
        Ok(())
    }

    fn commands(self, kernel: Option<Kernel>) -> Result<Vec<Command>> {
        let mut test = cargo();
        let target = target_dir()?;
        test.args(["test", "--no-fail-fast"])
            .env("ENVNET_BIN", target.join("debug/envnet"))
            .env("ENVNET_LAB_ASSETS", target.join("lab-assets"));
        if self == Self::Units {
            let mut examples = cargo();
            examples.args(["test", "--no-fail-fast", "--doc"]).args(UNITS);
            // Properties of the translation are next to its crate, because they see it from outside.
            let mut properties = cargo();
            properties.args(["test", "--package", "envnet-common", "--test", "translation"]);
            // A program without a library, which `--doc` would refuse.
            test.args(["--lib", "--bins", "--package", "envnet-bench"]).args(UNITS);
            return Ok(vec![test, properties, examples]);
        }
        if let Some(kernel) = kernel {
            setup::qemu()?;
            // Cargo hands the test programs to the laboratory, which runs them in a guest.
            let (laboratory, folder) = (target.join("debug/envnet-lab"), kernel.prepare()?);
            let runner = format!("['{}', 'kernel', '{}']", laboratory.display(), folder.display());
            test.args(["--config", &format!("target.'cfg(unix)'.runner = {runner}")])
                .env("ENVNET_LAB_PATIENCE", "5");
        } else if Privilege::find("this layer (network namespaces and eBPF)")? == Privilege::Sudo {
            // Only the tests themselves run as root, so that cargo leaves no files of root's in the target directory.
            test.args(["--config", "target.'cfg(unix)'.runner = 'sudo -E'"]);
        }
        // Two laboratories at once keep two processors busy without missing deadlines; machines are heavier.
        let threads = if self == Self::Clones { "1" } else { "2" };
        test.args(["--package", "envnet-lab"]);
        test.args(self.tests().iter().flat_map(|test| ["--test", test]));
        test.args(["--", "--test-threads", threads]);
        Ok(vec![test])
    }
}

/// Runs a test command, passing its output on as it comes; returns whether it succeeded.
fn stream(command: &mut Command, tally: &mut Tally) -> Result<bool> {
    let name = command.get_program().to_owned();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not start", name.display()))?;
    let output = child.stdout.take().context("standard output was not piped")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        *tally = *tally + Tally::of_line(&line);
    }
    Ok(child.wait()?.success())
}
