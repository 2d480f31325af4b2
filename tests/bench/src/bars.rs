//! Ratios as bars, in SVG.

/// A bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    /// As a multiple of the baseline.
    pub(crate) ratio: f64,
}

const ROW: f64 = 22.0;
const LABELS: f64 = 330.0;
const WIDTH: f64 = 900.0;
const TOP: f64 = 50.0;

/// Bars one below the other, with a line where what is measured costs as much as its baseline.
pub(crate) fn bars(title: &str, all: &[Bar]) -> String {
    let largest = all.iter().map(|bar| bar.ratio).fold(1.0, f64::max);
    let scale = (WIDTH - LABELS - 70.0) / largest;
    let height = all.iter().fold(TOP + 20.0, |height, _| height + ROW);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"10\" y=\"24\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    let mut y = TOP;
    for bar in all {
        let text = y + 13.0;
        let fill =
            if bar.label.contains("netkit") || bar.label.contains("veth") || bar.label.contains("service") {
                "#2a7f9e"
            } else {
                "#b9b9b9"
            };
        svg += &format!(
            "<text x=\"{x}\" y=\"{text}\" text-anchor=\"end\">{label}</text><rect x=\"{LABELS}\" y=\"{y}\" \
             width=\"{width:.1}\" height=\"16\" fill=\"{fill}\"/><text x=\"{end:.1}\" y=\"{text}\">{ratio:.3}</text>\n",
            x = LABELS - 8.0,
            label = escaped(&bar.label),
            width = bar.ratio * scale,
            end = LABELS + bar.ratio * scale + 5.0,
            ratio = bar.ratio,
        );
        y += ROW;
    }
    let one = LABELS + scale;
    svg += &format!(
        "<line x1=\"{one:.1}\" y1=\"{}\" x2=\"{one:.1}\" y2=\"{y}\" stroke=\"#c0392b\" stroke-dasharray=\"4 3\"/>\n</svg>\n",
        TOP - 8.0
    );
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_is_as_long_as_its_ratio() {
        let bar = |label: &str, ratio| Bar { label: label.into(), ratio };
        let svg = bars("a < b", &[bar("same_node_netkit", 1.0), bar("same_node_bridge", 2.0)]);
        assert!(svg.contains("a &lt; b"));
        assert!(svg.contains("width=\"250.0\"") && svg.contains("width=\"500.0\""), "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"));
    }
}
