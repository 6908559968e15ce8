//! When the wall clock of a measurement should not be believed, judged by the measurement alone.

use super::{Series, quantile};
use std::fmt;

/// A sign that the machine did something else too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Disturbance {
    /// The rounds scatter: the upper quartile of a subject's wall clock is this many times the lower one.
    Scatter(f64),
    /// The threads were not all running: this many processors were used by so many threads.
    Waiting {
        /// Processor time divided by wall clock, the median over rounds.
        used: f64,
        /// The threads that were asked for.
        threads: usize,
    },
}

impl Disturbance {
    /// Quartiles of the rounds of a quiet machine are within a few percent; this much is a finding.
    const SCATTER: f64 = 1.15;
    /// A runtime whose threads wait for work actively uses all of them on a quiet machine, but for the serial parts of
    /// a model.
    const USED: f64 = 0.85;
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scatter(q) => write!(f, "the upper quartile of the rounds is {q:.2} times the lower one"),
            Self::Waiting { used, threads: 1 } => {
                write!(f, "the thread had a processor for only {:.0} % of the time", 100.0 * used)
            }
            Self::Waiting { used, threads } => {
                write!(
                    f,
                    "{threads} threads used only {used:.2} processors, so they waited for one or had nothing to do"
                )
            }
        }
    }
}

/// The signs in a subject's series. `threads` is the number of threads that compute, where it is known and they are
/// threads of this machine's processors.
pub fn disturbances(s: &Series, threads: Option<usize>) -> Vec<Disturbance> {
    let mut out = Vec::new();
    let sorted = |mut v: Vec<f64>| {
        v.sort_by(f64::total_cmp);
        v
    };
    let wall = sorted(s.wall.clone());
    let scatter = quantile(&wall, 0.75) / quantile(&wall, 0.25);
    if scatter > Disturbance::SCATTER {
        out.push(Disturbance::Scatter(scatter));
    }
    if let Some(threads) = threads {
        let mean = |calls: &[f64]| calls.iter().sum::<f64>() / calls.len() as f64;
        let wall = s.calls.chunks(s.calls_per_round.max(1)).map(mean);
        let used = quantile(&sorted(s.processor.iter().zip(wall).map(|(p, w)| p / w).collect()), 0.5);
        if used < Disturbance::USED * threads as f64 {
            out.push(Disturbance::Waiting { used, threads });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(wall: &[f64], processor: &[f64]) -> Series {
        Series { calls_per_round: 1, calls: wall.to_vec(), wall: wall.to_vec(), processor: processor.to_vec() }
    }

    #[test]
    fn a_quiet_machine_is_believed() {
        let s = series(&[1.0, 1.01, 1.02, 1.03, 9.0], &[1.0, 1.01, 1.02, 1.03, 1.0]);
        assert_eq!(disturbances(&s, Some(1)), [], "one round in five may be anything");
        assert_eq!(disturbances(&series(&[1.0], &[]), Some(2)), [], "without the clock nothing is known");
    }

    #[test]
    fn scatter_and_waiting_are_told_apart() {
        let s = series(&[1.0, 1.0, 2.0, 2.0], &[1.0, 1.0, 2.0, 2.0]);
        assert_eq!(disturbances(&s, Some(1)), [Disturbance::Scatter(2.0)]);
        let s = series(&[2.0, 2.0, 2.0], &[2.0, 2.0, 2.0]);
        assert_eq!(disturbances(&s, Some(2)), [Disturbance::Waiting { used: 1.0, threads: 2 }]);
        assert_eq!(disturbances(&s, None), []);
    }
}
