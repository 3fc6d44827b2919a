//! The status as people read it.

use std::fmt;

use envnet_common::maps::LAYOUT_VERSION;

use super::{EnvironmentStatus, Status};
use crate::config::Environments;

/// Tables and notes. Hints are for no host and file yet: [`Cli::with_hints`](crate::cli::Cli::with_hints) sees to that.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.environments.is_empty() {
            f.write_str("nothing is attached")?;
            if self.uplink.is_some() {
                f.write_str("; `envnet detach` removes what an interrupted command has left")?;
            }
        } else {
            table(f, &self.guest_rows())?;
            self.write_uplink(f)?;
        }
        self.write_doubts(f)?;
        if !self.environments.is_empty() {
            self.write_differences(f)?;
            self.write_log(f)?;
        }
        self.write_other_build(f)?;
        if !self.environments.is_empty() && !self.drops.is_empty() {
            writeln!(f, "\n")?;
            table(f, &self.drop_rows())?;
        }
        Ok(())
    }
}

impl Status {
    fn guest_rows(&self) -> Vec<Vec<String>> {
        let header = [
            "ENV",
            "GUEST",
            "INTERNAL",
            "EXTERNAL",
            "TAP",
            "MAC",
            "IN",
            "OUT",
            "LAST SEEN",
            "DROPPED",
        ];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for environment in &self.environments {
            rows.extend(environment.guests.iter().map(|guest| {
                vec![
                    environment.environment.to_string(),
                    or_dash(guest.name.clone()),
                    guest.internal.to_string(),
                    guest.external.to_string(),
                    or_dash(guest.tap.clone()),
                    or_dash(guest.mac.clone()),
                    traffic(guest.packets_in, guest.bytes_in),
                    traffic(guest.packets_out, guest.bytes_out),
                    guest
                        .last_seen
                        .map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.1} s ago")),
                    guest.dropped.to_string(),
                ]
            }));
        }
        rows
    }

    fn drop_rows(&self) -> Vec<Vec<String>> {
        let header = ["DROPPED BECAUSE", "ENV", "GUEST", "PACKETS"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(self.drops.iter().map(|drop| {
            vec![
                format!("{} ({})", drop.reason, drop.number),
                or_dash(drop.environment.map(|number| number.to_string())),
                or_dash(drop.internal.map(|address| address.to_string())),
                drop.packets.to_string(),
            ]
        }));
        rows
    }

    fn write_uplink(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(uplink) = &self.uplink else {
            return Ok(());
        };
        let interface = uplink
            .interface
            .as_deref()
            .map_or(String::new(), |name| format!(" on {name}"));
        write!(
            f,
            "\n\nfast path{interface}: {}",
            uplink.reason.unwrap_or(uplink.fast_path)
        )
    }

    /// What may make the rest wrong.
    fn write_doubts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.busy {
            f.write_str("\nanother envnet command is at work: this may be half of what it does")?;
        }
        if self.brief && !self.environments.is_empty() {
            f.write_str("\nnot looked into: whether everything is there; `envnet plan` does")?;
        }
        match &self.not_compared {
            Some(why) => write!(f, "\nnot compared with the configuration: {why}"),
            None => Ok(()),
        }
    }

    /// What is not as the configuration says, each kind in one line however many environments there are.
    fn write_differences(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<&str> = self
            .environments
            .iter()
            .flat_map(|environment| environment.new_ports.iter().flatten().map(String::as_str))
            .collect();
        if !ports.is_empty() {
            write!(
                f,
                "\non the slow path: {}; `envnet attach` makes the fast one know {}",
                ports.join(", "),
                if ports.len() == 1 { "it" } else { "them" }
            )?;
        }
        let differing = |environment: &&EnvironmentStatus| environment.intact == Some(false);
        let differing = self.environments.iter().filter(differing);
        let differing: Environments = differing.map(|environment| environment.environment).collect();
        if differing.iter().next().is_some() {
            match self.not_compared {
                // What keeps it from being compared keeps it from being mended.
                Some(_) => write!(f, "\ndamaged: {}", differing.named())?,
                None => write!(
                    f,
                    "\nnot what the file says, or damaged: {}; `envnet plan` shows how, `envnet attach` mends it",
                    differing.named()
                )?,
            }
        }
        if !self.not_attached.is_empty() {
            let missing: Environments = self.not_attached.iter().copied().collect();
            write!(f, "\nnot attached: {}", missing.named())?;
        }
        if !self.not_in_file.is_empty() {
            let surplus: Environments = self.not_in_file.iter().copied().collect();
            write!(
                f,
                "\nnot in the file: {}; `envnet attach` removes what is not",
                surplus.named()
            )?;
        }
        Ok(())
    }

    fn write_log(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slow = match self.logging {
            0 => return Ok(()),
            1 => "",
            _ => ", and all packets take the slow path",
        };
        write!(
            f,
            "\nthe programs write to the log{slow}; if nobody reads it, `envnet status --log` and Ctrl-C ends that"
        )
    }

    fn write_other_build(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.unfit_map {
            write!(f, "\n{why}; `envnet detach` removes everything there is")?;
        }
        match self.other_build.as_ref().map(|other| other.layouts.as_slice()) {
            None => Ok(()),
            Some([]) => write!(
                f,
                "\nanother build of envnet has its programs here; `envnet attach` puts this one's in their place while \
                 packets flow"
            ),
            Some(layouts) => {
                let layouts: Environments = layouts.iter().copied().collect();
                write!(
                    f,
                    "\nanother build of envnet has its programs here, and maps of layout {layouts}, which this one (layout \
                     {LAYOUT_VERSION}) cannot read; `envnet attach` puts this one's in their place while packets flow, and \
                     counts from 0 again"
                )
            }
        }
    }
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn traffic(packets: u64, bytes: u64) -> String {
    let (mut amount, mut unit) = (bytes, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if amount < 10 * 1024 {
            break;
        }
        (amount, unit) = (amount / 1024, next);
    }
    format!("{packets} ({amount} {unit})")
}

/// Rows with their columns aligned, without a newline after the last.
fn table(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let newline = if number == 0 { "" } else { "\n" };
        write!(f, "{newline}{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn environment(number: u32, intact: bool, new_ports: &[&str]) -> EnvironmentStatus {
        EnvironmentStatus {
            environment: number,
            namespace: format!("ns{number}"),
            bridge: format!("br{number}"),
            intact: Some(intact),
            new_ports: Some(new_ports.iter().map(ToString::to_string).collect()),
            guests: Vec::new(),
        }
    }

    fn status(environments: Vec<EnvironmentStatus>) -> Status {
        Status {
            uplink: None,
            environments,
            brief: false,
            busy: false,
            not_compared: None,
            not_attached: Vec::new(),
            not_in_file: Vec::new(),
            logging: 0,
            other_build: None,
            unfit_map: None,
            drops: Vec::new(),
        }
    }

    #[test]
    fn each_kind_of_difference_is_one_line_with_a_hint_that_can_be_run() {
        let environments = (1..=999).map(|number| environment(number, number == 7, &[]));
        let ported = environment(1000, true, &["vnet7", "vnet8"]);
        let text = status(environments.chain([ported]).collect()).to_string();
        let text = Cli::parse_from(["envnet", "status", "--netns", "lab"]).with_hints(&text);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "on the slow path: vnet7, vnet8; `envnet --netns lab attach` makes the fast one know them",
                "not what the file says, or damaged: environments 1-6, 8-999; `envnet --netns lab plan` shows how, \
                 `envnet --netns lab attach` mends it",
            ]
        );
    }

    #[test]
    fn doubts_are_said_whatever_is_attached() {
        for environments in [Vec::new(), vec![environment(1, true, &[])]] {
            let text = Status {
                busy: true,
                not_compared: Some("envnet.toml:3: a mistake".to_owned()),
                ..status(environments)
            };
            let text = text.to_string();
            assert!(text.contains("another envnet command is at work"), "{text}");
            assert!(text.contains("envnet.toml:3: a mistake"), "{text}");
        }
    }

    #[test]
    fn columns_are_aligned() {
        struct Rows(Vec<Vec<String>>);
        impl fmt::Display for Rows {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                table(f, &self.0)
            }
        }
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = Rows(vec![row(["A", "LONG", "B"]), row(["1234", "x", ""])]);
        assert_eq!(rows.to_string(), "A     LONG  B\n1234  x");
    }

    #[test]
    fn traffic_is_shown_in_units() {
        assert_eq!(traffic(3, 300), "3 (300 B)");
        assert_eq!(traffic(9000, 12_000_000), "9000 (11 MiB)");
    }
}
