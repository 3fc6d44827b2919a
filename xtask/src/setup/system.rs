//! System packages, for those who want them: what they are called in each distribution, and `cargo xtask setup --system`.

use std::fs;

use anyhow::{Context, Result};

use xtask::process::{Privilege, check, find};

use super::table::Tool;

/// A family of distributions with the same package names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Distribution {
    /// Debian and what is made from it.
    Debian,
    /// Ubuntu and what is made from it.
    Ubuntu,
    /// Fedora and what is made from it.
    Fedora,
    /// Arch Linux and what is made from it.
    Arch,
    /// Any other.
    Other,
}

impl Distribution {
    /// That of this machine, from os-release(5).
    pub(crate) fn here() -> Self {
        let files = ["/etc/os-release", "/usr/lib/os-release"];
        let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
        Self::of(&text.unwrap_or_default())
    }

    fn of(os_release: &str) -> Self {
        let field = |name: &str| {
            let value = os_release
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let (own, like) = (field("ID"), field("ID_LIKE"));
        // The nearest relative comes first in ID_LIKE.
        let known = [own.as_str()]
            .into_iter()
            .chain(like.split(' '))
            .find_map(|id| match id {
                "debian" => Some(Self::Debian),
                "ubuntu" => Some(Self::Ubuntu),
                "fedora" | "rhel" => Some(Self::Fedora),
                "arch" => Some(Self::Arch),
                _ => None,
            });
        known.unwrap_or(Self::Other)
    }

    /// The command that installs packages.
    const fn install(self) -> &'static str {
        match self {
            Self::Debian | Self::Ubuntu => "apt-get install --no-install-recommends",
            Self::Fedora => "dnf install",
            Self::Arch => "pacman -S --needed",
            Self::Other => "install by your package manager:",
        }
    }

    /// The package that has a tool.
    pub(crate) const fn package(self, tool: &Tool) -> &'static str {
        let [debian, fedora, arch] = tool.packages;
        match self {
            Self::Debian | Self::Ubuntu | Self::Other => debian,
            Self::Fedora => fedora,
            Self::Arch => arch,
        }
    }

    /// How to get a compiler with the source of `core`.
    pub(crate) const fn compiler(self) -> &'static str {
        match self {
            Self::Debian => "apt-get install rustc-web cargo-web rust-web-src libllvm22",
            Self::Fedora => {
                "dnf install rust cargo rust-src llvm-libs, or rustup component add rust-src --toolchain nightly"
            }
            Self::Arch => "pacman -S rust rust-src llvm-libs, or rustup component add rust-src --toolchain nightly",
            Self::Ubuntu | Self::Other => "rustup component add rust-src --toolchain nightly",
        }
    }

    /// The packages of the kernel and busybox that virtual machines boot.
    pub(crate) const fn kernel(self) -> &'static str {
        match self {
            Self::Debian => "linux-image-cloud-amd64 and busybox-static",
            Self::Ubuntu => "linux-image-virtual and busybox-static",
            Self::Fedora => "kernel-core, kernel-modules-core and busybox",
            Self::Arch => "linux and busybox",
            Self::Other => "a kernel and a static busybox",
        }
    }

    /// The command that installs tools.
    pub(crate) fn command(self, tools: &[&Tool]) -> String {
        format!("{} {}", self.install(), self.packages(tools).join(" "))
    }

    fn packages(self, tools: &[&Tool]) -> Vec<&'static str> {
        let mut packages: Vec<_> = tools.iter().map(|tool| self.package(tool)).collect();
        packages.sort_unstable();
        packages.dedup();
        packages
    }
}

/// Installs the packages of tools, or prints the command where there is no apt.
pub(crate) fn install(tools: &[&Tool]) -> Result<()> {
    let here = Distribution::here();
    let command = here.command(tools);
    if tools.is_empty() {
        println!("all programs are good enough: nothing to install");
        return Ok(());
    }
    if find("apt-get").is_none() {
        println!("this system has no apt-get; as root: {command}");
        return Ok(());
    }
    println!("{command}");
    let mut apt = Privilege::find("apt-get install")?.command("apt-get");
    apt.args(["install", "--yes", "--quiet", "--no-install-recommends", "--no-remove"])
        .args(here.packages(tools))
        .env("DEBIAN_FRONTEND", "noninteractive");
    check(&mut apt).context("without --system, private copies do not touch the system")
}

#[cfg(test)]
mod tests {
    use super::{super::table::TOOLS, *};

    #[test]
    fn distributions_are_known_by_themselves_and_by_relatives() {
        for (os_release, expected) in [
            ("ID=debian\nVERSION_ID=\"12\"\n", Distribution::Debian),
            ("ID=ubuntu\nID_LIKE=debian\n", Distribution::Ubuntu),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", Distribution::Ubuntu),
            ("NAME=\"Fedora Linux\"\nID=fedora\n", Distribution::Fedora),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Distribution::Fedora),
            ("ID=arch\n", Distribution::Arch),
            ("ID=endeavouros\nID_LIKE=\"arch\"\n", Distribution::Arch),
            ("ID=nixos\n", Distribution::Other),
            ("", Distribution::Other),
        ] {
            assert_eq!(Distribution::of(os_release), expected, "{os_release}");
        }
    }

    #[test]
    fn each_distributions_names_are_used() {
        let wanted: Vec<_> = ["ip", "tc", "iptables-legacy-restore", "qemu-system-x86_64", "xz"]
            .iter()
            .map(|name| TOOLS.iter().find(|tool| tool.name == *name).expect("in the table"))
            .collect();
        for (distribution, expected) in [
            (
                Distribution::Debian,
                "apt-get install --no-install-recommends iproute2 iptables qemu-system-x86 xz-utils",
            ),
            (
                Distribution::Ubuntu,
                "apt-get install --no-install-recommends iproute2 iptables qemu-system-x86 xz-utils",
            ),
            (
                Distribution::Fedora,
                "dnf install iproute iproute-tc iptables-legacy qemu-system-x86-core xz",
            ),
            (
                Distribution::Arch,
                "pacman -S --needed iproute2 iptables-legacy qemu-system-x86 xz",
            ),
        ] {
            assert_eq!(distribution.command(&wanted), expected);
        }
    }

    #[test]
    fn the_rest_has_names_everywhere() {
        for (distribution, compiler, kernel) in [
            (Distribution::Debian, "rustc-web", "linux-image-cloud-amd64"),
            (
                Distribution::Ubuntu,
                "rustup component add rust-src",
                "linux-image-virtual",
            ),
            (Distribution::Fedora, "dnf install rust cargo rust-src", "kernel-core"),
            (Distribution::Arch, "pacman -S rust rust-src", "linux and busybox"),
        ] {
            assert!(distribution.compiler().contains(compiler), "{distribution:?}");
            assert!(distribution.kernel().contains(kernel), "{distribution:?}");
        }
    }
}
