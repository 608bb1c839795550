//! What was measured, as a table for people and as JSON for machines.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// What a benchmark must reach.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// Ours over the baseline.
    Ratio(f64),
    /// Ours over the baseline, where less is better.
    RatioAtMost(f64),
    /// Ours alone.
    Rate(f64),
    /// Milliseconds that half, and 99 in a hundred, may take.
    Latency { p50_ms: f64, p99_ms: f64 },
}

/// One line of the report.
#[derive(Debug)]
pub struct Row {
    pub name: &'static str,
    pub unit: &'static str,
    /// A figure per round.
    pub ours: Vec<f64>,
    /// Likewise; empty where nothing is compared.
    pub baseline: Vec<f64>,
    /// Milliseconds, in any order; empty where nothing was timed one by one.
    pub latencies_ms: Vec<f64>,
    pub goal: Goal,
}

impl Row {
    /// Ours over the baseline, by their medians.
    pub fn ratio(&self) -> Option<f64> {
        (!self.baseline.is_empty()).then(|| median(&self.ours) / median(&self.baseline))
    }

    /// Whether the goal is reached.
    pub fn reaches(&self) -> bool {
        match self.goal {
            Goal::Ratio(least) => self.ratio().is_some_and(|ratio| ratio >= least),
            Goal::RatioAtMost(most) => self.ratio().is_some_and(|ratio| ratio <= most),
            Goal::Rate(least) => median(&self.ours) >= least,
            Goal::Latency { p50_ms, p99_ms } => {
                self.percentile(0.5).is_some_and(|it| it <= p50_ms)
                    && self.percentile(0.99).is_some_and(|it| it <= p99_ms)
            }
        }
    }

    fn percentile(&self, share: f64) -> Option<f64> {
        percentile(&self.latencies_ms, share)
    }
}

/// What this share of some figures doesn't exceed; none of none.
pub fn percentile(figures: &[f64], share: f64) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "an index")]
    let index = (last as f64 * share).ceil() as usize;
    Some(sorted[index])
}

/// The middle one of some figures; 0 of none.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// One row in a line.
pub fn line(row: &Row) -> String {
    let mut line = format!("{}: {} {}", row.name, spread(&row.ours), row.unit);
    if let Some(ratio) = row.ratio() {
        line.push_str(&format!(", {ratio:.2} of {}", spread(&row.baseline)));
    }
    if let (Some(p50), Some(p99)) = (row.percentile(0.5), row.percentile(0.99)) {
        line.push_str(&format!(", p50 {p50:.1} ms, p99 {p99:.1} ms"));
    }
    line
}

/// Medians with their spread.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![
        ["benchmark", "unit", "ours", "baseline", "ratio", "p50", "p99", "goal", ""]
            .map(str::to_owned),
    ];
    for row in rows {
        let goal = match row.goal {
            Goal::Ratio(least) => format!("ratio ≥ {least}"),
            Goal::RatioAtMost(most) => format!("ratio ≤ {most}"),
            Goal::Rate(least) => format!("≥ {}", grouped(least)),
            Goal::Latency { p50_ms, p99_ms } => format!("p50 ≤ {p50_ms} ms, p99 ≤ {p99_ms} ms"),
        };
        let milliseconds =
            |it: Option<f64>| it.map_or_else(String::new, |it| format!("{it:.1} ms"));
        lines.push([
            row.name.to_owned(),
            row.unit.to_owned(),
            spread(&row.ours),
            spread(&row.baseline),
            row.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            milliseconds(row.percentile(0.5)),
            milliseconds(row.percentile(0.99)),
            goal,
            if row.reaches() { "reached" } else { "missed" }.to_owned(),
        ]);
    }
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in lines {
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

/// One object per row.
pub fn json(rows: &[Row]) -> String {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "name": row.name, "unit": row.unit, "ours": median(&row.ours),
                "baseline": (!row.baseline.is_empty()).then(|| median(&row.baseline)),
                "ratio": row.ratio(),
                "p50_ms": row.percentile(0.5), "p99_ms": row.percentile(0.99),
            })
        })
        .collect();
    format!("{:#}\n", Value::Array(rows))
}

/// The median, and the smallest and largest where there are several.
pub fn spread(figures: &[f64]) -> String {
    let (Some(least), Some(most)) = (
        figures.iter().copied().min_by(f64::total_cmp),
        figures.iter().copied().max_by(f64::total_cmp),
    ) else {
        return String::new();
    };
    if figures.len() == 1 {
        return grouped(least);
    }
    format!("{} [{}–{}]", grouped(median(figures)), grouped(least), grouped(most))
}

fn grouped(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
