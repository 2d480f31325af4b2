//! Times on a machine that others use too: many short rounds, taken in turn, and their median.

use std::time::Instant;

/// Many measurements of one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// Adds the samples of another.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// The value below which this share (0 to 1) of the samples lies; 0 of none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (last as f64 * share).round() as usize;
        sorted.get(at).copied().unwrap_or_default()
    }

    /// The value in the middle.
    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// How far the middle half of the samples is apart, as a share of the median.
    pub(crate) fn spread(&self) -> f64 {
        let median = self.median();
        if median == 0.0 { 0.0 } else { (self.quantile(0.75) - self.quantile(0.25)) / median }
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// Runs both in turn, so that whatever else the machine does falls on both alike: the samples of the first and of
/// the second. Each returns its own measurement. The first round of each warms up, and is dropped.
///
/// # Errors
/// The first error of either.
pub(crate) fn in_turn(
    rounds: usize,
    mut ours: impl FnMut() -> anyhow::Result<f64>,
    mut theirs: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<(Samples, Samples)> {
    let (mut first, mut second) = (Samples::default(), Samples::default());
    for round in 0..=rounds {
        let (a, b) = (ours()?, theirs()?);
        if round > 0 {
            first.push(a);
            second.push(b);
        }
    }
    Ok((first, second))
}

/// The milliseconds that something takes.
///
/// # Errors
/// Its own.
pub(crate) fn milliseconds<T>(run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<f64> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_outlier_moves_neither_median_nor_spread() {
        let samples: Samples = [10.0, 11.0, 12.0, 13.0, 900.0].into_iter().collect();
        assert!((samples.median() - 12.0).abs() < f64::EPSILON);
        assert!((samples.spread() - 2.0 / 12.0).abs() < 1e-9);
        assert!((Samples::default().median()).abs() < f64::EPSILON);
    }

    #[test]
    fn the_round_that_warms_up_does_not_count() {
        let mut calls = 0.0;
        let (ours, theirs) = in_turn(
            2,
            || {
                calls += 1.0;
                Ok(calls)
            },
            || Ok(7.0),
        )
        .unwrap();
        assert_eq!(ours.0, [2.0, 3.0]);
        assert_eq!(theirs.0, [7.0, 7.0]);
    }
}
