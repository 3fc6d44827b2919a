//! Charts as SVG: a bar for each method, and lines where something grows.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::record::{Record, Row};

const WIDTH: u32 = 880;
const BAR: u32 = 26;
/// Room for names on the left, for numbers on the right, for the title above.
const LEFT: i32 = 190;
const RIGHT: i32 = 130;
const TOP: i32 = 48;
const FONT: &str = "sans-serif";

/// Lines need colours of their own, told apart also by who sees fewer (Okabe and Ito).
const LINES: [RGBColor; 8] = [
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0x80, 0x80, 0x80),
    RGBColor(0x00, 0x00, 0x00),
];

/// A drawn chart.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) file: String,
}

/// Draws all charts that the record has rows for.
pub(crate) fn draw(record: &Record, folder: &Path) -> Result<Vec<Chart>> {
    let mut charts = Vec::new();
    let mut done: Vec<&Row> = Vec::new();
    for row in &record.rows {
        let is_first = !done.iter().any(|before| before.is_beside(row));
        if row.measurement == "growth" || row.measurement == "programs" || !is_first {
            continue;
        }
        done.push(row);
        let bars: Vec<_> = record
            .rows
            .iter()
            .filter(|other| other.is_beside(row) && !other.samples.is_empty())
            .collect();
        if bars.len() < 2 {
            continue;
        }
        let better = if row.less_is_better { "less" } else { "more" };
        let title = format!(
            "{}: {} ({}, {better} is better)",
            row.measurement, row.variant, row.unit
        );
        let file = file_of(row);
        draw_bars(&folder.join(&file), &title, &bars).map_err(|error| anyhow!("{file}: {error}"))?;
        charts.push(Chart { title, file });
    }
    for what in ["next packet of a flow", "first packet of a flow"] {
        let lines = growth(record, what);
        if !lines.is_empty() {
            let title = format!("growth: {what} (ns/packet, by number of mappings)");
            let file = file_name(&format!("growth {what}"));
            draw_lines(&folder.join(&file), &title, &lines).map_err(|error| anyhow!("{file}: {error}"))?;
            charts.push(Chart { title, file });
        }
    }
    Ok(charts)
}

/// The file with the chart of a row and of those beside it.
pub(super) fn file_of(row: &Row) -> String {
    file_name(&format!("{} {}", row.measurement, row.variant))
}

fn file_name(title: &str) -> String {
    let words: Vec<_> = title
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    format!("{}.svg", words.join("-").to_lowercase())
}

fn colour(method: &str) -> RGBColor {
    match method.split('-').next() {
        Some("envnet") => RGBColor(0x1b, 0x7f, 0x4b),
        Some("iptables") => RGBColor(0xb3, 0x4a, 0x3c),
        Some("nft" | "act") => RGBColor(0xd1, 0x8f, 0x2f),
        Some("limit" | "harness") => RGBColor(0x9a, 0x9a, 0x9a),
        _ => RGBColor(0x4a, 0x6f, 0xa5),
    }
}

fn draw_bars(path: &PathBuf, title: &str, rows: &[&Row]) -> Result<(), Box<dyn std::error::Error>> {
    let height = u32::try_from(TOP)? + BAR * u32::try_from(rows.len())? + 12;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    area.fill(&WHITE)?;
    area.draw_text(title, &(FONT, 17).into_text_style(&area), (16, 14))?;
    let most = rows
        .iter()
        .map(|row| row.median.value)
        .fold(f64::MIN_POSITIVE, f64::max);
    let room = f64::from(i32::try_from(WIDTH)? - LEFT - RIGHT);
    let style = (FONT, 14).into_text_style(&area);
    for (number, row) in (0_i32..).zip(rows) {
        let top = TOP + number * i32::try_from(BAR)?;
        #[expect(clippy::cast_possible_truncation, reason = "pixels")]
        let length = (row.median.value / most * room) as i32;
        let bar = [(LEFT, top), (LEFT + length.max(1), top + 18)];
        let filled = colour(&row.method).filled();
        area.draw(&Rectangle::new(bar, filled))?;
        // The interval, as far as there is room for it.
        let within = row.median.within.unwrap_or(0.0);
        let end = |value: f64| {
            #[expect(clippy::cast_possible_truncation, reason = "pixels")]
            let at = (value / most * room).min(room) as i32;
            (LEFT + at, top + 9)
        };
        let ends = [
            end(row.median.value / (1.0 + within)),
            end(row.median.value * (1.0 + within)),
        ];
        area.draw(&PathElement::new(ends, BLACK))?;
        area.draw_text(&row.method, &style, (16, top + 2))?;
        let doubt = if row.doubt().is_some() { " (±)" } else { "" };
        let text = format!("{}{doubt}", super::table::number(row.median.value));
        area.draw_text(&text, &style, (ends[1].0.max(LEFT + length) + 6, top + 2))?;
    }
    area.present()?;
    Ok(())
}

type Lines<'r> = BTreeMap<&'r str, Vec<(f64, f64)>>;

/// Each method's points: mappings and nanoseconds.
fn growth<'r>(record: &'r Record, what: &str) -> Lines<'r> {
    let mut lines = Lines::new();
    for row in record
        .rows
        .iter()
        .filter(|row| row.measurement == "growth" && !row.samples.is_empty())
    {
        let size = row
            .variant
            .strip_prefix(what)
            .and_then(|rest| rest.strip_prefix(", ")?.strip_suffix(" mappings")?.parse().ok());
        if let Some(size) = size {
            lines
                .entry(row.method.as_str())
                .or_default()
                .push((size, row.median.value));
        }
    }
    // A single point is one that does not grow.
    lines.retain(|_, points| points.len() > 1);
    lines
}

fn draw_lines(path: &PathBuf, title: &str, lines: &Lines<'_>) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, (WIDTH, 460)).into_drawing_area();
    area.fill(&WHITE)?;
    let values = || lines.values().flatten();
    let (least, most) = values().fold((f64::MAX, 1.0_f64), |(least, most), (_, y)| {
        (least.min(*y), most.max(*y))
    });
    let largest = values().fold(10.0_f64, |largest, (x, _)| largest.max(*x));
    let mut chart = ChartBuilder::on(&area)
        .caption(title, (FONT, 17))
        .margin(12)
        .margin_right(40)
        .x_label_area_size(36)
        .y_label_area_size(70)
        .build_cartesian_2d((1.0..largest * 1.3).log_scale(), (least * 0.7..most * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("mappings")
        .y_desc("ns/packet")
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (number, (method, points)) in lines.iter().enumerate() {
        let stroke = LINES[number % LINES.len()].stroke_width(2);
        let drawn = chart.draw_series(LineSeries::new(points.iter().copied(), stroke).point_size(3))?;
        drawn
            .label(*method)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], stroke));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 13))
        .draw()?;
    area.present()?;
    Ok(())
}
