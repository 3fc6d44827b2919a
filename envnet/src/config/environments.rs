//! The set of environments: a range `"1-3"`, several of them `"1-3, 7"`, or a list `[1, 2, 7]`.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de};

/// The highest environment number: with it the longest name, `peer1-br65535`, still fits the kernel's 15 characters.
const HIGHEST: u32 = 65_535;

/// A non-empty set of environment numbers from 1 to [`HIGHEST`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environments(pub(super) BTreeSet<u32>);

impl Environments {
    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// Whether a number is among them.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.0.contains(&number)
    }

    /// The numbers with the word for what they are: `environments 1-3, 7`.
    #[must_use]
    pub fn named(&self) -> String {
        let plural = if self.0.len() == 1 { "" } else { "s" };
        format!("environment{plural} {self}")
    }

    fn insert(&mut self, first: i64, last: i64) -> Result<(), String> {
        let number = |number: i64| {
            u32::try_from(number)
                .ok()
                .filter(|number| (1..=HIGHEST).contains(number))
                .ok_or_else(|| format!("environment {number} is out of range; numbers go from 1 to {HIGHEST}"))
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("the range {first}-{last} runs backwards; write {last}-{first}"));
        }
        for number in first..=last {
            if !self.0.insert(number) {
                return Err(format!("environment {number} is named twice; name it once"));
            }
        }
        Ok(())
    }
}

impl FromStr for Environments {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a set of environments; write \"1-3\", \"1-3, 7\" or [1, 2, 7]");
        let mut set = Self(BTreeSet::new());
        // As a list is written in the file.
        let inside = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        for part in inside.unwrap_or(text).split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.trim().parse::<i64>().map_err(|_| wrong());
            set.insert(number(first)?, number(last)?)?;
        }
        Ok(set)
    }
}

/// Numbers that are environments' already.
impl FromIterator<u32> for Environments {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

/// As it can be written: `1-3, 7`.
impl fmt::Display for Environments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<u32> = self.iter().collect();
        for (position, run) in numbers.chunk_by(|a, b| a + 1 == *b).enumerate() {
            f.write_str(if position == 0 { "" } else { ", " })?;
            match run {
                [first, .., last] => write!(f, "{first}-{last}")?,
                one => one.iter().try_for_each(|number| number.fmt(f))?,
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Environments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Environments;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a range such as \"1-3\" or a list such as [1, 2, 7]")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Environments, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut numbers: A) -> Result<Environments, A::Error> {
                let mut set = Environments(BTreeSet::new());
                while let Some(number) = numbers.next_element::<i64>()? {
                    set.insert(number, number).map_err(de::Error::custom)?;
                }
                if set.0.is_empty() {
                    return Err(de::Error::custom("no environment at all; name at least one"));
                }
                Ok(set)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
