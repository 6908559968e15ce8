//! Which subject is called when, and the series of times that come of it.

use super::{Clock, median};

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// This many rounds; `None`: until the time is spent.
    pub rounds: Option<usize>,
    /// Seconds to spend for each subject, where `rounds` does not say when to stop.
    pub seconds: f64,
    /// Calls of each subject before the first round.
    pub warm_up: usize,
}

impl Plan {
    /// The fewest rounds from which quartiles are drawn, however long they take.
    pub const LEAST_ROUNDS: usize = 8;
    /// Seconds that a subject is called in a row, if one call takes less.
    const SLOT: f64 = 0.002;
    const MOST_CALLS: f64 = 1000.0;
}

/// What was measured of a subject, in seconds.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Calls in a row, in every round.
    pub calls_per_round: usize,
    /// The wall clock of every call.
    pub calls: Vec<f64>,
    /// The wall clock of a call in every round: the median of the calls in a row, so that one that was interrupted does
    /// not weigh.
    pub wall: Vec<f64>,
    /// The processor time of a call in all threads of the process, as the mean of every round; empty where the system
    /// has no such clock.
    pub processor: Vec<f64>,
}

/// The subjects in the order in which a round calls them. Every 2n rounds each subject stands twice at each place, once
/// in a round and once in its mirror image: AB, BA, BA, AB for two.
pub fn order(round: usize, subjects: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..subjects).collect();
    order.rotate_left(round / 2 % subjects.max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Warms the subjects up and calls them round after round. A fast subject is called several times in a row, so that
/// switching between subjects does not outweigh it. After every round `progress` learns the part that is done.
///
/// # Errors
/// The first error of a subject.
pub fn measure<E>(
    subjects: &mut [impl FnMut() -> Result<(), E>],
    plan: &Plan,
    clock: &impl Clock,
    mut progress: impl FnMut(f64),
) -> Result<Vec<Series>, E> {
    let mut series = Vec::with_capacity(subjects.len());
    for call in subjects.iter_mut() {
        let mut fastest = f64::INFINITY;
        // One call more than asked for says how long a warm one takes.
        for _ in 0..=plan.warm_up {
            let start = clock.wall();
            call()?;
            fastest = fastest.min(clock.wall() - start);
        }
        let calls_per_round = (Plan::SLOT / fastest).clamp(1.0, Plan::MOST_CALLS) as usize;
        series.push(Series { calls_per_round, ..Series::default() });
    }
    let (start, budget) = (clock.wall(), plan.seconds * subjects.len() as f64);
    for round in 0.. {
        let spent = match plan.rounds {
            Some(n) => round as f64 / n.max(1) as f64,
            None => (clock.wall() - start) / budget,
        };
        progress(spent.min(1.0));
        // Time ends it when every subject stood at every place equally often.
        let balanced = round >= Plan::LEAST_ROUNDS && round % (2 * subjects.len().max(1)) == 0;
        if spent >= 1.0 && (plan.rounds.is_some() || balanced) {
            break;
        }
        for i in order(round, subjects.len()) {
            slot(&mut subjects[i], &mut series[i], clock)?;
        }
    }
    Ok(series)
}

fn slot<E>(call: &mut impl FnMut() -> Result<(), E>, s: &mut Series, clock: &impl Clock) -> Result<(), E> {
    let processor = clock.processor();
    let mut at = clock.wall();
    let first = s.calls.len();
    for _ in 0..s.calls_per_round {
        call()?;
        let now = clock.wall();
        s.calls.push(now - at);
        at = now;
    }
    let n = s.calls_per_round as f64;
    s.wall.push(median(s.calls[first..].iter().copied()));
    s.processor.extend(processor.zip(clock.processor()).map(|(a, b)| (b - a) / n));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Ratio;
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::convert::Infallible;

    /// A clock that stands still but for the subjects.
    #[derive(Default)]
    struct Fake {
        wall: Cell<f64>,
        processor: Cell<f64>,
    }

    impl Fake {
        fn pass(&self, wall: f64, processor: f64) {
            self.wall.set(self.wall.get() + wall);
            self.processor.set(self.processor.get() + processor);
        }
    }

    impl Clock for Fake {
        fn wall(&self) -> f64 {
            self.wall.get()
        }
        fn processor(&self) -> Option<f64> {
            Some(self.processor.get())
        }
    }

    #[test]
    fn every_subject_stands_at_every_place_twice() {
        assert_eq!([0, 1, 2, 3, 4].map(|r| order(r, 2)), [[0, 1], [1, 0], [1, 0], [0, 1], [0, 1]]);
        for n in 1..6 {
            let mut at = vec![vec![0; n]; n];
            for round in 0..2 * n {
                let mut seen = order(round, n);
                for (place, &subject) in seen.iter().enumerate() {
                    at[subject][place] += 1;
                }
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..n));
            }
            assert!(at.iter().flatten().all(|&times| times == 2), "{at:?}");
        }
        assert!(order(3, 0).is_empty());
    }

    #[test]
    fn a_machine_that_slows_down_does_not_favor_a_subject() {
        let clock = Fake::default();
        let slower = Cell::new(1.0);
        let subject = |seconds: f64| {
            let (clock, slower) = (&clock, &slower);
            move || {
                slower.set(slower.get() * 1.01);
                clock.pass(seconds * slower.get(), seconds);
                Ok::<(), Infallible>(())
            }
        };
        let plan = Plan { rounds: Some(40), seconds: 0.0, warm_up: 2 };
        let Ok(s) = measure(&mut [subject(0.02), subject(0.01)], &plan, &clock, |_| {});
        let r = Ratio::of(&s[1].wall, &s[0].wall).expect("rounds");
        assert!((r.median - 0.5).abs() < 0.002, "{r:?}");
        let processor = Ratio::of(&s[1].processor, &s[0].processor).expect("rounds");
        assert!((processor.median - 0.5).abs() < 1e-9 && processor.q3 - processor.q1 < 1e-9, "{processor:?}");
        assert_eq!([s[0].wall.len(), s[0].calls.len(), s[1].processor.len()], [40, 40, 40]);
    }

    #[test]
    fn fast_subjects_are_called_in_a_row_and_time_ends_the_rounds() {
        let clock = Fake::default();
        let log = RefCell::new(Vec::new());
        let subject = |name: char, seconds: f64| {
            let (clock, log) = (&clock, &log);
            move || {
                clock.pass(seconds, 0.0);
                log.borrow_mut().push(name);
                Ok::<(), Infallible>(())
            }
        };
        let mut parts = Vec::new();
        let plan = Plan { rounds: None, seconds: 0.1, warm_up: 0 };
        let Ok(s) = measure(&mut [subject('a', 0.001), subject('b', 0.007)], &plan, &clock, |p| parts.push(p));
        assert_eq!(s.iter().map(|s| s.calls_per_round).collect::<Vec<_>>(), [2, 1]);
        let said: String = log.borrow().iter().collect();
        assert!(said.starts_with("abaabbaabaaaab"), "{said}");
        // 0.2 seconds in rounds of 0.009, an even number of them.
        assert_eq!((s[1].wall.len(), s[0].calls.len()), (24, 48));
        assert!(parts.is_sorted() && parts.last() == Some(&1.0), "{parts:?}");
    }

    #[test]
    fn slow_subjects_get_the_fewest_rounds() {
        let clock = Fake::default();
        let mut subject = [|| {
            clock.pass(9.0, 9.0);
            Ok::<(), Infallible>(())
        }];
        let plan = Plan { rounds: None, seconds: 1.0, warm_up: 1 };
        let Ok(s) = measure(&mut subject, &plan, &clock, |_| {});
        assert_eq!(s[0].wall, [9.0; Plan::LEAST_ROUNDS]);
    }

    #[test]
    fn the_first_error_ends_it() {
        let clock = Fake::default();
        let mut left = 5;
        let mut subject = [|| {
            left -= 1;
            clock.pass(1.0, 1.0);
            if left == 0 { Err("done") } else { Ok(()) }
        }];
        let plan = Plan { rounds: Some(100), seconds: 0.0, warm_up: 1 };
        assert_eq!(measure(&mut subject, &plan, &clock, |_| {}).expect_err("the fifth call fails"), "done");
    }
}
