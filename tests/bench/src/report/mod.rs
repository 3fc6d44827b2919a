//! What is made of a record: a table for the terminal, JSON, charts, and the pages.

mod chart;
mod detail;
mod page;
pub(crate) mod scale;
pub(crate) mod table;
mod why;

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::record::Record;

/// Name of the record in its folder.
const RECORD: &str = "bench.json";

/// Writes the record and its charts into a folder.
pub(crate) fn write(record: &Record, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let path = folder.join(RECORD);
    fs::write(&path, serde_json::to_string_pretty(record)?)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    chart::draw(record, folder)?;
    println!("record and charts are in {}", folder.display());
    Ok(())
}

/// Writes both pages and their charts into the folder with the documentation, and the essence into the README beside it.
pub(crate) fn publish(record: &Record, docs: &Path) -> Result<()> {
    let folder = docs.join("benchmarks");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let charts = chart::draw(record, &folder)?;
    let write = |path: &Path, text: String| {
        fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        println!("{} is written anew", path.display());
        Ok(())
    };
    write(&docs.join("benchmarks.md"), page::page(record, &charts))?;
    write(&docs.join("benchmarks-detail.md"), detail::page(record, &charts))?;
    let path = docs.join("../README.md");
    let readme = page::readme(&fs::read_to_string(&path).unwrap_or_default(), record);
    if readme.is_none() {
        println!("{} has no markers for figures", path.display());
    }
    readme.map_or(Ok(()), |text| write(&path, text))
}
