//! Debian packages, fetched by apt without root and without a change to the system.
//!
//! apt gets a configuration and a state of its own: empty lists of installed packages, so that whatever the system has or
//! holds back cannot conflict, and package lists of today. Of the system it uses its sources, keys and proxies.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context, Result, anyhow, ensure};

use xtask::{
    process::{check, find, output},
    tools,
};

/// Settings of the system that are taken over: how to reach the mirrors.
const TAKEN_OVER: &str = "Acquire::";
/// Those of them that are set here.
const OWN: [&str; 4] = [
    "Acquire::Languages",
    "Acquire::IndexTargets",
    "Acquire::GzipIndexes",
    "Acquire::CompressionTypes",
];

/// apt with an empty state of its own.
#[derive(Debug)]
pub(crate) struct Apt {
    configuration: PathBuf,
}

impl Apt {
    /// Prepares the state and fetches the package lists, once per run.
    pub(crate) fn get() -> Result<&'static Self> {
        static APT: OnceLock<Result<Apt, String>> = OnceLock::new();
        APT.get_or_init(|| Self::prepare().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!(error.clone()))
    }

    /// Whether this system has what fetching needs.
    pub(crate) fn is_here() -> bool {
        ["apt-get", "apt-cache", "dpkg-deb"]
            .iter()
            .all(|program| find(program).is_some())
    }

    fn prepare() -> Result<Self> {
        ensure!(
            Self::is_here(),
            "this system has no apt-get and dpkg-deb to fetch packages with"
        );
        let folder = tools::folder().join("apt");
        for name in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(name)).with_context(|| format!("{} cannot be made", folder.display()))?;
        }
        fs::write(folder.join("status"), "")?;
        let system = output(Command::new("apt-config").arg("dump"))?;
        let apt = Self {
            configuration: folder.join("apt.conf"),
        };
        fs::write(&apt.configuration, configuration(&folder, &system))?;
        println!(
            "reading the package lists of this system's sources, into {}",
            folder.display()
        );
        // Not for sources that cannot be reached: what is missing then is said when it is asked for.
        let updated = output(apt.command("apt-get").args(["update", "--quiet"]));
        let has_lists = fs::read_dir(folder.join("lists"))?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
        match updated {
            Ok(_) if !has_lists => Err(anyhow!("no package list of this system's sources can be fetched")),
            Ok(_) => Ok(apt),
            Err(_) if has_lists => Ok(apt),
            Err(error) => Err(error),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration).env("LC_ALL", "C");
        command
    }

    /// The version of a package that the sources offer.
    pub(crate) fn candidate(&self, package: &str) -> Option<String> {
        parse_candidate(&output(self.command("apt-cache").args(["policy", package])).ok()?)
    }

    /// The package that a metapackage stands for: its first dependency that begins with `prefix`.
    pub(crate) fn resolve(&self, metapackage: &str, prefix: &str) -> Result<String> {
        let depends = output(self.command("apt-cache").args(["depends", metapackage]))?;
        parse_dependency(&depends, prefix).with_context(|| format!("{metapackage} depends on no {prefix}*"))
    }

    /// Downloads packages and all that they depend on, and unpacks them into `root`.
    pub(crate) fn unpack_with_dependencies(&self, packages: &[&str], root: &Path) -> Result<Fetched> {
        let archives = root.join("archives");
        fs::create_dir_all(archives.join("partial"))?;
        let mut install = self.command("apt-get");
        install.args(["install", "--yes", "--quiet", "--download-only", "--option"]);
        install.arg(format!("Dir::Cache::archives={}", archives.display()));
        output(install.args(packages))?;
        unpack(&archives, root)
    }

    /// Downloads packages without those they depend on, and unpacks them into `root`.
    pub(crate) fn unpack(&self, packages: &[&str], root: &Path) -> Result<Fetched> {
        let archives = root.join("archives");
        fs::create_dir_all(&archives)?;
        output(
            self.command("apt-get")
                .args(["download", "--quiet"])
                .args(packages)
                .current_dir(&archives),
        )?;
        unpack(&archives, root)
    }
}

/// What was downloaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fetched {
    /// The packages, as `name_version`.
    pub(crate) packages: Vec<String>,
    /// Their size in bytes.
    pub(crate) bytes: u64,
}

impl Fetched {
    /// Number and size, for people.
    pub(crate) fn size(&self) -> String {
        let megabytes = self.bytes / 100_000;
        let word = if self.packages.len() == 1 {
            "package"
        } else {
            "packages"
        };
        format!(
            "{} {word}, {}.{} MB",
            self.packages.len(),
            megabytes / 10,
            megabytes % 10
        )
    }
}

/// Unpacks and removes the packages in `archives`.
fn unpack(archives: &Path, root: &Path) -> Result<Fetched> {
    let mut fetched = Fetched::default();
    for entry in fs::read_dir(archives)? {
        let path = entry?.path();
        if path.extension() != Some(OsStr::new("deb")) {
            continue;
        }
        check(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(root))?;
        fetched.bytes += fs::metadata(&path)?.len();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        fetched.packages.push(name.replace("%3a", ":"));
    }
    fetched.packages.sort();
    fs::remove_dir_all(archives)?;
    Ok(fetched)
}

/// apt's own configuration: nothing of the system but how to reach its mirrors. Hooks of `apt-get update`, which would run
/// on the system, are not taken over, nor are pins.
fn configuration(folder: &Path, system: &str) -> String {
    let network = system
        .lines()
        .filter(|line| line.starts_with(TAKEN_OVER) && !OWN.iter().any(|own| line.starts_with(own)));
    let network: Vec<_> = network.collect();
    let folder = folder.display();
    format!(
        "Dir::Etc::Parts \"/dev/null\";\n\
         Dir::Etc::Main \"/dev/null\";\n\
         Dir::Etc::Preferences \"/dev/null\";\n\
         Dir::Etc::PreferencesParts \"/dev/null\";\n\
         Dir::State \"{folder}\";\n\
         Dir::State::lists \"{folder}/lists\";\n\
         Dir::State::status \"{folder}/status\";\n\
         Dir::State::extended_states \"{folder}/extended_states\";\n\
         Dir::Cache \"{folder}\";\n\
         Dir::Cache::archives \"{folder}/archives\";\n\
         Dir::Cache::pkgcache \"\";\n\
         Dir::Cache::srcpkgcache \"\";\n\
         Dir::Log \"{folder}\";\n\
         APT::Install-Recommends \"false\";\n\
         APT::Install-Suggests \"false\";\n\
         APT::Sandbox::User \"root\";\n\
         Acquire::Languages \"none\";\n\
         Acquire::GzipIndexes \"true\";\n\
         Debug::NoLocking \"true\";\n\
         {}\n",
        network.join("\n")
    )
}

/// Reads `apt-cache policy` for one package.
fn parse_candidate(policy: &str) -> Option<String> {
    let candidate = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (candidate != "(none)").then(|| candidate.to_owned())
}

/// Reads `apt-cache depends`; "|Depends:" marks the first of several alternatives.
fn parse_dependency(depends: &str, prefix: &str) -> Option<String> {
    let mut names = depends
        .lines()
        .filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "));
    names.find(|name| name.starts_with(prefix)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidate_is_read() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(parse_candidate(policy).as_deref(), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(parse_candidate("x:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(parse_candidate(""), None);
    }

    #[test]
    fn metapackage_is_resolved() {
        let depends = "linux-image-cloud-amd64\n  Depends: linux-base\n |Depends: linux-image-6.1.0-56-cloud-amd64\n";
        assert_eq!(
            parse_dependency(depends, "linux-image-").as_deref(),
            Some("linux-image-6.1.0-56-cloud-amd64")
        );
        assert_eq!(
            parse_dependency("x\n  Recommends: linux-image-1\n", "linux-image-"),
            None
        );
    }

    #[test]
    fn proxies_are_taken_over_and_hooks_are_not() {
        let system = "APT::Update::Post-Invoke:: \"rm -f /var/cache/apt/archives/*.deb\";\n\
                      Acquire::http::Proxy \"http://proxy:3128\";\nAcquire::Languages:: \"de\";\n";
        let own = configuration(Path::new("/x/.tools/apt"), system);
        assert!(own.contains("Acquire::http::Proxy \"http://proxy:3128\";"), "{own}");
        assert!(own.contains("Dir::State::status \"/x/.tools/apt/status\";"), "{own}");
        assert!(!own.contains("Post-Invoke") && !own.contains("\"de\""), "{own}");
    }

    #[test]
    fn sizes_are_for_people() {
        let fetched = Fetched {
            packages: vec!["a_1".into(), "b_2".into()],
            bytes: 41_260_000,
        };
        assert_eq!(fetched.size(), "2 packages, 41.2 MB");
    }
}
