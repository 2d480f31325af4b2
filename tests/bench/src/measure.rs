//! Times on a machine that others use too: many short rounds, taken in turn, and their median.

use std::time::Instant;

/// Many measurements of one thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Each, in the order of measurement.
    pub(crate) fn iter(&self) -> impl Iterator<Item = f64> {
        self.0.iter().copied()
    }

    /// The value below which this share (0 to 1) of the samples lies, between two samples in proportion; 0 of none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[allow(clippy::cast_precision_loss, reason = "nobody takes that many samples")]
        let at = sorted.len().saturating_sub(1) as f64 * share;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the samples")]
        let (below, above) = (at.floor() as usize, at.ceil() as usize);
        match (sorted.get(below), sorted.get(above)) {
            (Some(low), Some(high)) => (high - low).mul_add(at.fract(), *low),
            _ => 0.0,
        }
    }

    /// The value in the middle; between two, the mean of them.
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

/// Measures each of these in turn, round by round, so that whatever else the machine does falls on all alike: what
/// each round gave, by contender. All have as many samples. The first round warms up, and is dropped.
///
/// # Errors
/// The first error of any.
pub(crate) fn all_in_turn<C, T, const N: usize>(
    rounds: usize,
    contenders: &[C; N],
    mut measure: impl FnMut(&C) -> anyhow::Result<T>,
) -> anyhow::Result<[Vec<T>; N]> {
    let mut taken: [Vec<T>; N] = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for round in 0..=rounds {
        for (contender, taken) in contenders.iter().zip(&mut taken) {
            let sample = measure(contender)?;
            if round > 0 {
                taken.push(sample);
            }
        }
    }
    Ok(taken)
}

/// Runs both in turn, as [`all_in_turn`] does: the samples of the first and of the second. Each returns its own
/// measurement.
///
/// # Errors
/// The first error of either.
pub(crate) fn in_turn(
    rounds: usize,
    mut ours: impl FnMut() -> anyhow::Result<f64>,
    mut theirs: impl FnMut() -> anyhow::Result<f64>,
) -> anyhow::Result<(Samples, Samples)> {
    let taken = all_in_turn(rounds, &[true, false], |first| if *first { ours() } else { theirs() })?;
    let [ours, theirs] = taken.map(Samples);
    Ok((ours, theirs))
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
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        let median = |samples: &[f64]| samples.iter().copied().collect::<Samples>().median();
        assert!((median(&[4.0, 1.0]) - 2.5).abs() < 1e-9);
        assert!((median(&[8.0, 1.0, 4.0, 2.0]) - 3.0).abs() < 1e-9);
        assert!((median(&[5.0, 1.0, 3.0]) - 3.0).abs() < 1e-9);
        assert!((median(&[7.0]) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn the_spread_is_the_middle_half_beside_the_median() {
        let samples: Samples = (1..=9).map(f64::from).collect();
        assert!((samples.spread() - 4.0 / 5.0).abs() < 1e-9);
        let two: Samples = [1.0, 3.0].into_iter().collect();
        assert!((two.spread() - 0.5).abs() < 1e-9);
        let one: Samples = [3.0].into_iter().collect();
        assert!(one.spread().abs() < 1e-9);
    }

    #[test]
    fn a_quantile_lies_between_two_samples_in_proportion() {
        let samples: Samples = (0..=10).map(f64::from).collect();
        assert!((samples.quantile(0.99) - 9.9).abs() < 1e-9);
        assert!(samples.quantile(0.0).abs() < 1e-9);
        assert!((samples.quantile(1.0) - 10.0).abs() < 1e-9);
    }

    #[test]
    fn one_outlier_moves_neither_median_nor_spread() {
        let samples: Samples = [10.0, 11.0, 12.0, 13.0, 900.0].into_iter().collect();
        assert!((samples.median() - 12.0).abs() < f64::EPSILON);
        assert!((samples.spread() - 2.0 / 12.0).abs() < 1e-9);
        assert!((Samples::default().median()).abs() < f64::EPSILON);
    }

    #[test]
    fn contenders_are_measured_in_turn_and_the_round_that_warms_up_does_not_count() {
        let mut order = Vec::new();
        let taken = all_in_turn(2, &["ours", "theirs", "others"], |name| {
            order.push(*name);
            Ok(order.len())
        });
        assert_eq!(order, ["ours", "theirs", "others"].repeat(3));
        assert_eq!(taken.unwrap(), [[4, 7], [5, 8], [6, 9]]);
    }

    #[test]
    fn both_of_two_have_as_many_samples() {
        let (mut calls, mut others) = (0.0, 10.0);
        let ours = || {
            calls += 1.0;
            Ok(calls)
        };
        let theirs = || {
            others += 1.0;
            Ok(others)
        };
        let (ours, theirs) = in_turn(2, ours, theirs).unwrap();
        assert_eq!(ours.0, [2.0, 3.0]);
        assert_eq!(theirs.0, [12.0, 13.0]);
    }

    #[test]
    fn an_error_of_any_ends_the_measurement() {
        let theirs = || Err(anyhow::anyhow!("theirs fails"));
        assert!(in_turn(3, || Ok(1.0), theirs).is_err());
    }
}
