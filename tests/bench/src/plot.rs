//! Figures as pictures: SVG, both axes logarithmic.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use plotters::prelude::*;

/// One line of a plot: its name, and its points.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What stands at a plot's edges.
pub(crate) struct Labels {
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
}

/// Draws lines with both axes logarithmic.
///
/// # Errors
/// If there is no point, or the file cannot be written.
pub(crate) fn log_log(file: &Path, labels: &Labels, lines: &[Line]) -> anyhow::Result<()> {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let (x, y) = (range(points().map(|point| point.0))?, range(points().map(|point| point.1))?);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (760, 480)).into_drawing_area();
        draw(&area, labels, lines, x, y).map_err(|error| anyhow!("drawing {}: {error}", file.display()))?;
    }
    std::fs::write(file, svg).with_context(|| format!("writing {}", file.display()))
}

type Range = std::ops::Range<f64>;

fn draw(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    labels: &Labels,
    lines: &[Line],
    x: Range,
    y: Range,
) -> Result<(), Box<dyn std::error::Error>> {
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .caption(labels.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(x.log_scale(), y.log_scale())?;
    chart
        .configure_mesh()
        .x_desc(labels.x)
        .y_desc(labels.y)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .light_line_style(WHITE)
        .draw()?;
    for (number, line) in lines.iter().enumerate() {
        let color = Palette99::pick(number).to_rgba();
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), color.stroke_width(2)).point_size(4))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

/// From the power of ten below the smallest value to the one above the largest.
fn range(values: impl Iterator<Item = f64>) -> anyhow::Result<Range> {
    let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
    let (low, high) = logs
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), log| (low.min(*log), high.max(*log)));
    anyhow::ensure!(low.is_finite(), "there is nothing to plot");
    Ok(10f64.powf(low.floor())..10f64.powf(if high.ceil() > low.floor() { high.ceil() } else { high + 1.0 }))
}

/// 1000000 as 1M, 0.01 as it is.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_every_line_and_label() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plot.svg");
        let labels = Labels { title: "Finding", x: "sockets", y: "ms" };
        let line = |name, factor| Line {
            name,
            points: vec![(1e4, factor), (1e5, 10.0 * factor), (1e6, 100.0 * factor)],
        };
        log_log(&file, &labels, &[line("ours", 0.1), line("theirs", 30.0)]).unwrap();
        let svg = std::fs::read_to_string(file).unwrap();
        for text in ["Finding", "sockets", "ours", "theirs", "100k", "1M"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn nothing_is_not_plotted() {
        let labels = Labels { title: "", x: "", y: "" };
        assert!(log_log(Path::new("/nonexistent/plot.svg"), &labels, &[]).is_err());
    }
}
