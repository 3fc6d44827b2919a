//! The tools that the verbs need: how each is asked for its version, what is good enough, and which package has it.

/// Packages that are fetched together into one folder of private copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Set {
    /// What network tests run.
    Network,
    /// What envnet is compared with or measured by.
    Comparison,
    /// What checks the unit file.
    Service,
    /// What runs virtual machines.
    Machines,
    /// What unpacks kernel modules.
    Unpacking,
    /// A compiler for the BPF target.
    Compiler,
}

impl Set {
    /// The folder's name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Comparison => "comparison",
            Self::Service => "service",
            Self::Machines => "machines",
            Self::Unpacking => "unpacking",
            Self::Compiler => xtask::toolchain::PRIVATE_SET,
        }
    }

    /// Debian's and Ubuntu's packages, with those they depend on left out. Of several lists the first that has what is
    /// needed is taken.
    pub(crate) const fn packages(self) -> &'static [&'static [&'static str]] {
        match self {
            Self::Network => &[&["iproute2", "iptables", "ethtool"]],
            Self::Comparison => &[&["nftables", "iperf3"]],
            Self::Service => &[&["systemd"]],
            Self::Machines => &[&["qemu-system-x86"]],
            Self::Unpacking => &[&["xz-utils", "zstd"]],
            Self::Compiler => &[
                &["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy", "libllvm22"],
                &["rustc", "cargo", "rust-src", "rust-clippy", "libllvm22"],
            ],
        }
    }

    /// What the set is for, in a few words.
    pub(crate) const fn purpose(self) -> &'static str {
        match self {
            Self::Network => "network tests run them",
            Self::Comparison => "envnet is compared with them or measured by them",
            Self::Service => "a test checks the unit file with it",
            Self::Machines => "virtual machines run in it",
            Self::Unpacking => "kernel modules are compressed",
            Self::Compiler => "a compiler and the source of `core` for the BPF target",
        }
    }

    /// Programs of the set that are run, besides those in [`TOOLS`].
    pub(crate) const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Compiler => &["rustc", "cargo", "cargo-clippy", "clippy-driver"],
            _ => &[],
        }
    }

    /// Folders, from the root of the set, that nothing here reads.
    pub(crate) const fn unused(self) -> &'static [&'static str] {
        match self {
            // Of the compiler's source, only the libraries are compiled.
            Self::Compiler => &["usr/share", "usr/src/*/src", "usr/src/*/compiler", "usr/src/*/tests"],
            Self::Machines => &["usr/share/doc", "usr/share/man", "usr/share/locale"],
            _ => &["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/perl"],
        }
    }
}

/// A program that a verb runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    /// Its name in PATH.
    pub(crate) name: &'static str,
    /// The set that its private copy is in.
    pub(crate) set: Set,
    /// The option that prints its version.
    pub(crate) version: &'static str,
    /// The oldest version that is good enough: the options used here exist since then.
    pub(crate) oldest: (u32, u32),
    /// The file in its package, when it has another name than the tool.
    pub(crate) program: Option<&'static str>,
    /// The verbs that need it.
    pub(crate) needed_by: &'static str,
    /// The package that has it in Debian and Ubuntu, in Fedora, and in Arch Linux.
    pub(crate) packages: [&'static str; 3],
}

/// Shorthand for a row of [`TOOLS`] whose private copy has its own name.
const fn tool(
    name: &'static str,
    set: Set,
    version: &'static str,
    oldest: (u32, u32),
    needed_by: &'static str,
    packages: [&'static str; 3],
) -> Tool {
    Tool {
        name,
        set,
        version,
        oldest,
        program: None,
        needed_by,
        packages,
    }
}

/// What runs namespaces, bridges and filters in every laboratory.
const LABORATORY: &str = "run, test, soak, bench";

/// All tools.
pub(crate) const TOOLS: [Tool; 12] = [
    tool(
        "ip",
        Set::Network,
        "-V",
        (5, 10),
        LABORATORY,
        ["iproute2", "iproute", "iproute2"],
    ),
    tool(
        "tc",
        Set::Network,
        "-V",
        (5, 10),
        LABORATORY,
        ["iproute2", "iproute-tc", "iproute2"],
    ),
    tool("ethtool", Set::Network, "--version", (5, 9), LABORATORY, ["ethtool"; 3]),
    Tool {
        program: Some("xtables-nft-multi"),
        ..tool(
            "iptables",
            Set::Network,
            "--version",
            (1, 8),
            "test, bench, fuzz --differential",
            IPTABLES,
        )
    },
    Tool {
        program: Some("xtables-nft-multi"),
        ..tool(
            "iptables-nft-restore",
            Set::Network,
            "--version",
            (1, 8),
            "bench",
            IPTABLES,
        )
    },
    Tool {
        program: Some("xtables-legacy-multi"),
        ..tool(
            "iptables-legacy-restore",
            Set::Network,
            "--version",
            (1, 8),
            "bench",
            IPTABLES_LEGACY,
        )
    },
    tool("nft", Set::Comparison, "--version", (1, 0), "bench", ["nftables"; 3]),
    tool("iperf3", Set::Comparison, "--version", (3, 7), "bench", ["iperf3"; 3]),
    tool(
        "systemd-analyze",
        Set::Service,
        "--version",
        (250, 0),
        "test",
        ["systemd"; 3],
    ),
    tool(
        "qemu-system-x86_64",
        Set::Machines,
        "--version",
        (5, 2),
        "run, test",
        QEMU,
    ),
    tool(
        "xz",
        Set::Unpacking,
        "--version",
        (5, 0),
        "run, test",
        ["xz-utils", "xz", "xz"],
    ),
    tool("zstd", Set::Unpacking, "--version", (1, 0), "run, test", ["zstd"; 3]),
];

const IPTABLES: [&str; 3] = ["iptables", "iptables-nft", "iptables"];
const IPTABLES_LEGACY: [&str; 3] = ["iptables", "iptables-legacy", "iptables-legacy"];
const QEMU: [&str; 3] = ["qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86"];
