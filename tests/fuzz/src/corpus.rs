//! Cases as lines of text: `world | in or out | hexadecimal bytes`. Kept failures are replayed by the test `model`.

use std::fmt::Write;

use anyhow::{Context, Result, bail};
use envnet_model::{Direction, Host, World};

use crate::{Case, worlds};

/// Every case that a program once got wrong, or that is hard to come by at random.
pub const KEPT: &str = include_str!("../corpus/kept.txt");

/// The line for a case.
#[must_use]
pub fn line(world: &World, case: &Case) -> String {
    let direction = match case.direction {
        Direction::In => "in",
        Direction::Out => "out",
    };
    format!("{} | {direction} | {}", world.name, hex(&case.frame))
}

/// All cases in a text; empty lines and those that begin with `#` are comments.
pub fn parse(text: &str) -> Result<Vec<(&'static Host, Case)>> {
    let lines = text.lines().map(str::trim).enumerate();
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(at, line)| parse_line(line).with_context(|| format!("line {}: {line}", at + 1)))
        .collect()
}

fn parse_line(line: &str) -> Result<(&'static Host, Case)> {
    let words: Vec<&str> = line.split('|').map(str::trim).collect();
    let [world, direction, bytes] = words[..] else {
        bail!("not `world | in or out | bytes`");
    };
    let host = worlds::find(world).context("no such world")?;
    let direction = match direction {
        "in" => Direction::In,
        "out" => Direction::Out,
        _ => bail!("not a direction: {direction}"),
    };
    let digits: Vec<char> = bytes.chars().filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16);
    let frame = digits.chunks(2).map(byte).collect::<Result<_, _>>()?;
    let kind = "kept";
    Ok((host, Case { kind, direction, frame }))
}

/// Two digits a byte, with spaces where headers commonly end.
#[must_use]
pub fn hex(frame: &[u8]) -> String {
    frame.iter().enumerate().fold(String::new(), |mut text, (at, byte)| {
        if [14, 34, 42, 62].contains(&at) {
            text.push(' ');
        }
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
