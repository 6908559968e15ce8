//! When the wall clock of a measurement should not be believed, judged by the measurement alone.

use super::Series;
use super::statistics::{median, quantile, sorted};

/// Quartiles of the rounds of a quiet machine are within a few percent; this much is a finding.
const SCATTER: f64 = 1.15;
/// A runtime whose threads wait for work actively uses all of them on a quiet machine, but for the serial parts of
/// a model.
const USED: f64 = 0.85;

/// The signs in a subject's series that the machine did something else too. `threads` is the number of threads that compute, where it is known and they are
/// threads of this machine's processors.
pub fn disturbances(s: &Series, threads: Option<usize>) -> Vec<String> {
    let mut out = Vec::new();
    let wall = sorted(s.wall.iter().copied());
    let scatter = quantile(&wall, 0.75) / quantile(&wall, 0.25);
    if scatter > SCATTER {
        out.push(format!("the upper quartile of the rounds is {scatter:.2} times the lower one"));
    }
    if let Some(threads) = threads {
        let mean = |calls: &[f64]| calls.iter().sum::<f64>() / calls.len() as f64;
        let wall = s.calls.chunks(s.calls_per_round.max(1)).map(mean);
        let used = median(s.processor.iter().zip(wall).map(|(p, w)| p / w));
        if used < USED * threads as f64 {
            out.push(match threads {
                1 => format!("the thread had a processor for only {:.0} % of the time", 100.0 * used),
                _ => format!(
                    "{threads} threads used only {used:.2} processors, so they waited for one or had nothing to do"
                ),
            });
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
        assert!(disturbances(&s, Some(1)).is_empty(), "one round in five may be anything");
        assert!(disturbances(&series(&[1.0], &[]), Some(2)).is_empty(), "without the clock nothing is known");
    }

    #[test]
    fn scatter_and_waiting_are_told_apart() {
        let s = series(&[1.0, 1.0, 2.0, 2.0], &[1.0, 1.0, 2.0, 2.0]);
        assert_eq!(disturbances(&s, Some(1)), ["the upper quartile of the rounds is 2.00 times the lower one"]);
        let s = series(&[2.0, 2.0, 2.0], &[2.0, 2.0, 2.0]);
        assert_eq!(
            disturbances(&s, Some(2)),
            ["2 threads used only 1.00 processors, so they waited for one or had nothing to do"]
        );
        assert!(disturbances(&s, None).is_empty());
    }
}
