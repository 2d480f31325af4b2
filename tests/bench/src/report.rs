//! What was measured, as a table and as JSON.

use std::{fs, path::Path};

use anyhow::{Context as _, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::{
    bars::{Bar, bars},
    figures,
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
    /// The same of the baseline's samples.
    pub(crate) baseline_spread: Option<f64>,
    /// How many samples the value is the median of; the baseline has as many.
    pub(crate) samples: usize,
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

    /// Adds what was measured against something, in turn with it.
    ///
    /// # Errors
    /// If there are not as many samples of both.
    pub(crate) fn compare(
        &mut self,
        name: &str,
        unit: &'static str,
        ours: &Samples,
        baseline: &Samples,
    ) -> anyhow::Result<()> {
        ensure!(ours.len() == baseline.len(), "{name}: {} samples and {}", ours.len(), baseline.len());
        let (value, base) = (ours.median(), baseline.median());
        self.push(Figure {
            baseline: Some(base),
            ratio: (base != 0.0).then(|| value / base),
            baseline_spread: spread(baseline),
            ..alone(name, unit, ours)
        });
        Ok(())
    }

    /// Adds what stands alone.
    pub(crate) fn state(&mut self, name: &str, unit: &'static str, samples: &Samples) {
        self.push(alone(name, unit, samples));
    }

    /// Adds the value below which a share of the samples lies.
    pub(crate) fn quantile(&mut self, name: &str, unit: &'static str, samples: &Samples, share: f64) {
        let value = samples.quantile(share);
        self.push(Figure { value, spread: None, ..alone(name, unit, samples) });
    }

    /// The value of a figure and its baseline's.
    pub(crate) fn figure(&self, name: &str) -> Option<(f64, Option<f64>)> {
        let figure = self.figures.iter().find(|figure| figure.name == name)?;
        Some((figure.value, figure.baseline))
    }

    fn push(&mut self, figure: Figure) {
        eprintln!("  {} {} {}", figure.name, number(figure.value), figure.unit);
        self.figures.push(figure);
    }

    /// Prints the table and writes `<folder>/<name>.json`.
    ///
    /// # Errors
    /// If a figure is not of this bench, or the file cannot be written.
    pub(crate) fn finish(&self, folder: &Path) -> anyhow::Result<()> {
        println!("{}", self.table());
        let known = figures::of(self.name);
        for figure in &self.figures {
            ensure!(known.contains(&figure.name), "{} is not in the list of figures", figure.name);
        }
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
        table.set_header(["", "value", "spread", "unit", "baseline", "its spread", "ratio", "samples"]);
        let optional = |value: Option<f64>| value.map(number).unwrap_or_default();
        let percent =
            |share: Option<f64>| share.map(|share| format!("{:.1} %", share * 100.0)).unwrap_or_default();
        for figure in &self.figures {
            table.add_row([
                figure.name.clone(),
                number(figure.value),
                percent(figure.spread),
                figure.unit.to_owned(),
                optional(figure.baseline),
                percent(figure.baseline_spread),
                optional(figure.ratio),
                figure.samples.to_string(),
            ]);
        }
        for column in [1, 2, 4, 5, 6, 7] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

fn alone(name: &str, unit: &'static str, samples: &Samples) -> Figure {
    Figure {
        name: name.to_owned(),
        value: samples.median(),
        unit,
        baseline: None,
        ratio: None,
        spread: spread(samples),
        baseline_spread: None,
        samples: samples.len(),
    }
}

fn spread(samples: &Samples) -> Option<f64> {
    (samples.len() > 1).then(|| samples.spread())
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

    fn samples(of: &[f64]) -> Samples {
        of.iter().copied().collect()
    }

    #[test]
    fn a_ratio_is_value_over_baseline() {
        let mut report = Report::new("test");
        report.compare("find", "ms", &samples(&[2.0]), &samples(&[8.0])).unwrap();
        report.state("size", "MB", &samples(&[5.0]));
        let json = serde_json::to_value(&report.figures).unwrap();
        assert_eq!(json[0]["ratio"], 0.25);
        assert_eq!(json[1]["baseline"], serde_json::Value::Null);
        assert!(report.table().to_string().contains("find"));
    }

    #[test]
    fn the_spread_of_both_sides_is_reported_and_none_of_one_sample() {
        let mut report = Report::new("test");
        report.compare("find", "ms", &samples(&[1.0, 2.0, 3.0]), &samples(&[8.0, 10.0, 12.0])).unwrap();
        report.state("size", "MB", &samples(&[5.0]));
        let json = serde_json::to_value(&report.figures).unwrap();
        assert_eq!((&json[0]["spread"], &json[0]["baseline_spread"]), (&0.5.into(), &0.2.into()));
        assert_eq!(json[0]["samples"], 3);
        assert_eq!(json[1]["spread"], serde_json::Value::Null);
    }

    #[test]
    fn a_baseline_has_as_many_samples() {
        let refused = Report::new("test").compare("find", "ms", &samples(&[1.0, 2.0]), &samples(&[1.0]));
        assert!(refused.unwrap_err().to_string().contains("2 samples and 1"));
    }

    #[test]
    fn a_figure_that_is_not_in_the_list_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut report = Report::new("plugin");
        report.state("instantiate", "µs", &samples(&[5.0]));
        report.finish(folder.path()).unwrap();
        report.state("instantiates", "µs", &samples(&[5.0]));
        assert!(report.finish(folder.path()).unwrap_err().to_string().contains("instantiates"));
    }

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(number(34_123.4), "34123");
        assert_eq!(number(0.001_234_56), "0.001235");
        assert_eq!(number(1.0), "1.000");
    }
}
