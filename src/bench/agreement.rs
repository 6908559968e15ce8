//! Whether two subjects compute the same, so that their times may be compared at all.

use crate::ir::Tensor;
use serde::Serialize;

/// How far the outputs of a subject are from those of the baseline.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// The largest difference, as a part of the largest number of that output of the baseline; `None` where no output
    /// has a counterpart of its name and shape. Infinite where a NaN or an infinity stands against a number.
    pub difference: Option<f64>,
    /// Outputs without a counterpart, and why.
    pub unmatched: Vec<String>,
    /// Outputs of the subject with a NaN in them.
    pub nan: Vec<String>,
}

/// Compares the outputs. They are matched by name; where both have one output, names do not matter.
pub fn agreement(found: &[(String, Tensor)], expected: &[(String, Tensor)]) -> Agreement {
    let (mut difference, mut unmatched, mut nan) = (None, Vec::new(), Vec::new());
    for (name, x) in found {
        if x.to_f64_vec().iter().any(|x| x.is_nan()) {
            nan.push(name.clone());
        }
        let only = expected.first().filter(|_| found.len() == 1 && expected.len() == 1);
        let Some((_, y)) = expected.iter().find(|(n, _)| n == name).or(only) else {
            unmatched.push(format!("the baseline has no output `{name}`"));
            continue;
        };
        match x.max_abs_diff(y) {
            None => unmatched.push(format!("output `{name}` is {:?}, the baseline's is {:?}", x.shape(), y.shape())),
            Some(most) => {
                let scale = y.to_f64_vec().into_iter().filter(|y| y.is_finite()).fold(0.0, |m: f64, y| m.max(y.abs()));
                let part = if most == 0.0 { 0.0 } else { most / scale };
                difference = Some(part.max(difference.unwrap_or(0.0)));
            }
        }
    }
    Agreement { difference, unmatched, nan }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, x: &[f32]) -> Vec<(String, Tensor)> {
        vec![(name.to_owned(), Tensor::new(&[x.len()], x.to_vec()))]
    }

    #[test]
    fn the_largest_difference_counts() {
        let a = agreement(&one("y", &[1.0, 2.0, 4.5]), &one("y", &[1.0, 2.25, 4.0]));
        assert_eq!(a, Agreement { difference: Some(0.125), unmatched: vec![], nan: vec![] });
        assert_eq!(agreement(&one("y", &[0.0]), &one("output", &[0.0])).difference, Some(0.0), "one output each");
        assert_eq!(agreement(&one("y", &[1.0]), &one("y", &[0.0])).difference, Some(f64::INFINITY));
    }

    #[test]
    fn other_outputs_and_nan_are_said() {
        let two = [one("y", &[1.0]), one("z", &[1.0])].concat();
        let a = agreement(&two, &one("y", &[1.0]));
        assert_eq!((a.difference, a.unmatched.len()), (Some(0.0), 1));
        let a = agreement(&one("y", &[1.0, f32::NAN]), &one("y", &[1.0]));
        assert_eq!((a.difference, a.nan), (None, vec!["y".to_owned()]));
        assert!(a.unmatched[0].contains("[2]") && a.unmatched[0].contains("[1]"), "{:?}", a.unmatched);
        assert_eq!(agreement(&one("y", &[f32::NAN]), &one("y", &[1.0])).difference, Some(f64::INFINITY));
    }
}
