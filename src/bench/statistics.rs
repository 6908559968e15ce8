//! Quantiles, and ratios of paired measurements.

use serde::Serialize;

/// The quantile `p` (0 to 1) of sorted numbers, interpolated linearly between neighbors: type 7 of Hyndman and Fan,
/// "Sample Quantiles in Statistical Packages" (1996), which is what R and NumPy compute. NaN where there are none.
pub(super) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = p.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// The numbers in ascending order.
pub(super) fn sorted(numbers: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut v: Vec<f64> = numbers.into_iter().collect();
    v.sort_by(f64::total_cmp);
    v
}

/// The median, NaN where there are no numbers.
pub fn median(numbers: impl IntoIterator<Item = f64>) -> f64 {
    quantile(&sorted(numbers), 0.5)
}

/// How times are distributed, in the unit of the times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// The shortest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// One in ten is longer.
    pub p90: f64,
    /// One in a hundred is longer.
    pub p99: f64,
}

impl Percentiles {
    /// Of these times. NaN where there are none.
    pub fn of(times: &[f64]) -> Self {
        let v = sorted(times.iter().copied());
        let [min, p50, p90, p99] = [0.0, 0.5, 0.9, 0.99].map(|p| quantile(&v, p));
        Self { min, p50, p90, p99 }
    }
}

/// How much longer a subject takes than the baseline, over rounds: below 1 is faster.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// A quarter of the rounds is below.
    pub q1: f64,
    /// The median of the rounds.
    pub median: f64,
    /// A quarter of the rounds is above.
    pub q3: f64,
    /// An interval that holds the true median with a probability of 95 %, were the rounds independent: the order
    /// statistics at n/2 ± 0.98 √n, free of any assumption about the distribution. Narrower than the quartiles, which
    /// say how single rounds scatter.
    pub median_95: [f64; 2],
}

/// Where the quartiles of a ratio lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Three quarters of the rounds are below 0.98.
    Faster,
    /// Three quarters of the rounds are above 1.02.
    Slower,
    /// Neither: about equal, or the rounds scatter too much to tell.
    Open,
}

impl Ratio {
    /// The quotients of both series, round by round; `None` where there is no round.
    pub fn of(subject: &[f64], baseline: &[f64]) -> Option<Self> {
        let v = sorted(subject.iter().zip(baseline).map(|(s, b)| s / b));
        let last = v.len().checked_sub(1)? as f64;
        let reach = 0.98 * (v.len() as f64).sqrt();
        let at = |rank: f64| v[rank.clamp(0.0, last) as usize];
        let [q1, median, q3] = [0.25, 0.5, 0.75].map(|p| quantile(&v, p));
        Some(Self { q1, median, q3, median_95: [at((last / 2.0 - reach).floor()), at((last / 2.0 + reach).ceil())] })
    }

    /// What the quartiles say.
    pub fn verdict(&self) -> Verdict {
        match self {
            r if r.q3 < 0.98 => Verdict::Faster,
            r if r.q1 > 1.02 => Verdict::Slower,
            _ => Verdict::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `numpy.quantile`.
    #[test]
    fn quantiles_are_those_of_numpy() {
        let v = [1.0, 2.0, 4.0, 8.0, 16.0];
        assert_eq!([0.0, 0.25, 0.5, 0.9, 1.0].map(|p| quantile(&v, p)), [1.0, 2.0, 4.0, 12.8, 16.0]);
        assert_eq!(quantile(&[1.0, 3.0], 0.5), 2.0);
        assert_eq!(quantile(&[7.0], 0.99), 7.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn percentiles_do_not_depend_on_the_order() {
        let times: Vec<f64> = (0..101).map(|i| f64::from((i * 37) % 101)).collect();
        assert_eq!(Percentiles::of(&times), Percentiles { min: 0.0, p50: 50.0, p90: 90.0, p99: 99.0 });
    }

    #[test]
    fn a_ratio_is_taken_within_rounds() {
        // The machine slows down fivefold, which hits both.
        let baseline = [1.0, 2.0, 3.0, 4.0, 5.0];
        let subject = baseline.map(|b| b * 0.5);
        let r = Ratio::of(&subject, &baseline).expect("rounds");
        assert_eq!((r.q1, r.median, r.q3), (0.5, 0.5, 0.5));
        assert_eq!(r.verdict(), Verdict::Faster);
        assert_eq!(Ratio::of(&baseline, &subject).expect("rounds").verdict(), Verdict::Slower);
        assert_eq!(Ratio::of(&[], &baseline), None);
    }

    #[test]
    fn scattered_rounds_decide_nothing() {
        let subject: Vec<f64> = (0..99).map(|i| 0.5 + f64::from(i) / 99.0).collect();
        let r = Ratio::of(&subject, &[1.0; 99]).expect("rounds");
        assert_eq!(r.verdict(), Verdict::Open);
        assert!(r.q1 < r.median_95[0] && r.median_95[0] < r.median && r.median < r.median_95[1], "{r:?}");
        let few = Ratio::of(&[0.5, 2.0], &[1.0; 2]).expect("rounds");
        assert_eq!(few.median_95, [0.5, 2.0], "two rounds bound nothing");
    }
}
