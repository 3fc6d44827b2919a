//! The verb `test`: layers from pure functions to cloned machines, each run whatever became of the one before.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};

use xtask::process::{Privilege, cargo, check, describe};

use crate::{kernels::Kernel, libtest::Tally, setup, target_dir};

/// Options of the verb `test`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Run only this layer; can be given more than once.
    #[arg(long, value_enum)]
    layer: Vec<Layer>,
    /// Run rows and namespaces under this kernel in QEMU, not under the running one; can be given more than once.
    #[arg(long, value_enum)]
    kernel: Vec<Kernel>,
    /// Run only tests with one of these in their names.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
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
            outcomes.push(Outcome::of(layer, kernel, &options.names));
        }
    }

    println!(
        "\n{:<19}{:>8}{:>8}{:>9}{:>10}",
        "layer", "passed", "failed", "ignored", "seconds"
    );
    for outcome in &outcomes {
        outcome.print();
    }
    let total: Tally = outcomes.iter().map(|outcome| outcome.tally).sum();
    // A layer that broke off or did not run has failed, even if none of its tests could say so.
    let silent = outcomes
        .iter()
        .filter(|outcome| outcome.end != End::Passed && outcome.tally.failed == 0)
        .count();
    println!(
        "\n{} passed, {} failed, {} skipped",
        total.passed,
        total.failed as usize + silent,
        total.ignored
    );
    let names = |is: fn(&End) -> bool| {
        let names = outcomes
            .iter()
            .filter(|outcome| is(&outcome.end))
            .map(|outcome| outcome.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    };
    let failed = names(|end| matches!(end, End::Failed(_)));
    let not_run = names(|end| matches!(end, End::NotRun(_)));
    let words = [
        ("these layers failed: ", failed),
        ("these layers did not run: ", not_run),
    ];
    let words = words.iter().filter(|(_, names)| !names.is_empty());
    let words: Vec<_> = words.map(|(word, names)| format!("{word}{names}")).collect();
    if words.is_empty() {
        Ok(())
    } else {
        bail!("{}", words.join("; "))
    }
}

/// What became of a layer.
struct Outcome {
    name: String,
    tally: Tally,
    elapsed: Duration,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Passed,
    Failed(String),
    /// Something that it needs cannot be had.
    NotRun(String),
}

impl Outcome {
    fn of(layer: Layer, kernel: Option<Kernel>, names: &[String]) -> Self {
        let start = Instant::now();
        let name = kernel.map_or_else(
            || layer.name().to_owned(),
            |kernel| format!("{} on {}", layer.name(), kernel.name()),
        );
        println!("\n=== {name} ===");
        let mut tally = Tally::default();
        let end = match layer.set_up(kernel) {
            Err(reason) => {
                println!("does not run: {reason:#}");
                End::NotRun(format!("{reason:#}"))
            }
            Ok(means) => match layer.run(&means, names, &mut tally) {
                Err(error) => End::Failed(format!("{error:#}")),
                Ok(()) => End::Passed,
            },
        };
        Self {
            name,
            tally,
            elapsed: start.elapsed(),
            end,
        }
    }

    fn print(&self) {
        let Tally {
            passed,
            failed,
            ignored,
            ..
        } = self.tally;
        let (name, seconds) = (&self.name, self.elapsed.as_secs_f64());
        match &self.end {
            End::NotRun(reason) => println!("{name:<19}did not run: {reason}"),
            End::Passed => println!("{name:<19}{passed:>8}{failed:>8}{ignored:>9}{seconds:>10.1}"),
            End::Failed(error) => {
                println!("{name:<19}{passed:>8}{failed:>8}{ignored:>9}{seconds:>10.1}\n  {error}");
            }
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
    fn run(self, means: &Means, names: &[String], tally: &mut Tally) -> Result<()> {
        if self != Self::Units {
            // The tests use the command as people do.
            check(cargo().args(["build", "--package", "envnet"]))?;
        }
        let mut failures = Vec::new();
        for mut command in self.commands(means)? {
            // The last words of each are for the test programs.
            command.args(names);
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

    /// Finds or fetches what the layer needs; an error says why it cannot run.
    fn set_up(self, kernel: Option<Kernel>) -> Result<Means> {
        let mut means = Means::default();
        setup::compiler()?;
        if self == Self::Units {
            return Ok(means);
        }
        setup::network_tests()?;
        if self == Self::Lifecycle {
            setup::service()?;
        }
        if self == Self::Clones {
            means.machines = Some(setup::machines()?);
        }
        if let Some(kernel) = kernel {
            setup::qemu()?;
            means.kernel = Some(kernel.prepare()?);
        } else {
            // Only the tests themselves run as root, so that cargo leaves no files of root's in the target directory.
            means.root = Privilege::find("this layer (network namespaces and eBPF)")?.prefix();
        }
        Ok(means)
    }

    fn commands(self, means: &Means) -> Result<Vec<Command>> {
        let mut test = cargo();
        let target = target_dir()?;
        test.args(["test", "--no-fail-fast"])
            .env("ENVNET_BIN", target.join("debug/envnet"));
        if let Some(folder) = &means.machines {
            test.env("ENVNET_LAB_ASSETS", folder);
        }
        if self == Self::Units {
            let mut examples = cargo();
            examples.args(["test", "--no-fail-fast", "--doc"]).args(UNITS).arg("--");
            // Properties of the translation are next to its crate, because they see it from outside.
            let mut properties = cargo();
            properties.args(["test", "--package", "envnet-common", "--test", "translation", "--"]);
            // A program without a library, which `--doc` would refuse.
            test.args(["--lib", "--bins", "--package", "envnet-bench"])
                .args(UNITS)
                .arg("--");
            return Ok(vec![test, properties, examples]);
        }
        let mut runner = means.root.clone();
        if let Some(folder) = &means.kernel {
            // Cargo hands the test programs to the laboratory, which runs them in a guest.
            runner = vec![target.join("debug/envnet-lab").into(), "kernel".into(), folder.into()];
            test.env("ENVNET_LAB_PATIENCE", "5");
        }
        if !runner.is_empty() {
            let runner =
                toml_words(&runner).context("a path has a quote or is not UTF-8: cargo takes no such runner")?;
            test.args(["--config", &format!("target.'cfg(unix)'.runner = {runner}")]);
        }
        // Two laboratories at once keep two processors busy without missing deadlines; machines are heavier.
        let threads = if self == Self::Clones { "1" } else { "2" };
        test.args(["--package", "envnet-lab"]);
        test.args(self.tests().iter().flat_map(|test| ["--test", test]));
        test.args(["--", "--test-threads", threads]);
        Ok(vec![test])
    }
}

/// What a layer's set-up has found.
#[derive(Debug, Default)]
struct Means {
    /// The words before a command that is to run as root.
    root: Vec<OsString>,
    /// The folder of the kernel to run the layer under, in QEMU.
    kernel: Option<PathBuf>,
    /// The folder with what virtual machines boot.
    machines: Option<PathBuf>,
}

/// Words as a TOML array of literal strings; nothing if one cannot be written so.
fn toml_words(words: &[OsString]) -> Option<String> {
    let words: Option<Vec<_>> = words
        .iter()
        .map(|word| {
            word.to_str()
                .filter(|word| !word.contains('\''))
                .map(|word| format!("'{word}'"))
        })
        .collect();
    words.map(|words| format!("[{}]", words.join(", ")))
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
