//! What was measured, as a table and as JSON.

use std::{fs, path::Path};

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::{
    bars::{Bar, bars},
    measure::Samples,
};

/// One measured thing.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// What, in the names that docs/benchmarks.md explains.
    pub(crate) name: String,
    /// How much: the median.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// What it is measured against, in the same unit; none where there is nothing to compare with.
    pub(crate) baseline: Option<f64>,
    /// `value / baseline`.
    pub(crate) ratio: Option<f64>,
    /// How far the middle half of the samples is apart, as a share of the value; none of a single sample.
    pub(crate) spread: Option<f64>,
}

/// All that one bench measured.
pub(crate) struct Report {
    name: &'static str,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, figures: Vec::new() }
    }

    /// Adds what was measured against something.
    pub(crate) fn compare(&mut self, name: &str, unit: &'static str, ours: &Samples, baseline: &Samples) {
        let (value, base) = (ours.median(), baseline.median());
        self.push(Figure {
            name: name.to_owned(),
            value,
            unit,
            baseline: Some(base),
            ratio: (base != 0.0).then(|| value / base),
            spread: Some(ours.spread()),
        });
    }

    /// Adds what stands alone.
    pub(crate) fn state(&mut self, name: &str, unit: &'static str, samples: &Samples) {
        let (value, spread) = (samples.median(), Some(samples.spread()));
        self.push(Figure { name: name.to_owned(), value, unit, baseline: None, ratio: None, spread });
    }

    /// Adds the value below which a share of the samples lies.
    pub(crate) fn quantile(&mut self, name: &str, unit: &'static str, samples: &Samples, share: f64) {
        let value = samples.quantile(share);
        self.push(Figure { name: name.to_owned(), value, unit, baseline: None, ratio: None, spread: None });
    }

    /// The value of a figure and its baseline's.
    pub(crate) fn figure(&self, name: &str) -> Option<(f64, Option<f64>)> {
        let figure = self.figures.iter().find(|figure| figure.name == name)?;
        Some((figure.value, figure.baseline))
    }

    /// Adds a figure.
    pub(crate) fn push(&mut self, figure: Figure) {
        eprintln!("  {} {} {}", figure.name, number(figure.value), figure.unit);
        self.figures.push(figure);
    }

    /// Prints the table and writes `<folder>/<name>.json`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn finish(&self, folder: &Path) -> anyhow::Result<()> {
        println!("{}", self.table());
        let file = folder.join(self.name).with_extension("json");
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let json = serde_json::to_string_pretty(&self.figures)?;
        fs::write(&file, json + "\n").with_context(|| format!("writing {}", file.display()))?;
        println!("{}", file.display());
        Ok(())
    }

    /// Writes `<folder>/<file>.svg`: the ratios of the figures whose names fit.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn plot(
        &self,
        folder: &Path,
        file: &str,
        title: &str,
        fits: impl Fn(&str) -> bool,
    ) -> anyhow::Result<()> {
        let all: Vec<Bar> = self
            .figures
            .iter()
            .filter(|figure| fits(&figure.name))
            .filter_map(|figure| Some(Bar { label: figure.name.clone(), ratio: figure.ratio? }))
            .collect();
        let path = folder.join(file).with_extension("svg");
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        fs::write(&path, bars(title, &all)).with_context(|| format!("writing {}", path.display()))
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["", "value", "unit", "baseline", "ratio", "spread"]);
        let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
        for figure in &self.figures {
            table.add_row([
                figure.name.clone(),
                number(figure.value),
                figure.unit.to_owned(),
                optional(figure.baseline),
                optional(figure.ratio),
                figure.spread.map(|spread| format!("{:.1} %", spread * 100.0)).unwrap_or_default(),
            ]);
        }
        for column in [1, 3, 4, 5] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

/// Four significant digits.
fn number(value: f64) -> String {
    let digits = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let decimals = (3.0 - digits).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_value_over_baseline() {
        let mut report = Report::new("test");
        report.compare("find", "ms", &[2.0].into_iter().collect(), &[8.0].into_iter().collect());
        report.state("size", "MB", &[5.0].into_iter().collect());
        let json = serde_json::to_value(&report.figures).unwrap();
        assert_eq!(json[0]["ratio"], 0.25);
        assert_eq!(json[1]["baseline"], serde_json::Value::Null);
        assert!(report.table().to_string().contains("find"));
    }

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(number(34_123.4), "34123");
        assert_eq!(number(0.001_234_56), "0.001235");
        assert_eq!(number(1.0), "1.000");
    }
}
