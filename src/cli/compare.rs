//! Compares tensors within `atol + rtol * |expected|`.

use super::output;
use crate::ir::Tensor;
use serde_json::json;

/// The allowed difference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    pub(super) atol: f64,
    pub(super) rtol: f64,
}

/// The differences of two tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Difference {
    /// The largest absolute difference; infinite if there is a NaN.
    pub(super) abs: f64,
    /// The largest difference relative to the expected number, where that is not 0.
    pub(super) rel: f64,
    /// The largest difference relative to the allowed one; above 1 is too much.
    pub(super) used: f64,
}

/// A comparison, or the reason why there is none.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) result: Result<Difference, String>,
}

impl Row {
    pub(super) fn new(name: &str, found: &Tensor, expected: &Tensor, t: Tolerance) -> Self {
        Self { name: name.to_owned(), shape: found.shape().to_vec(), result: compare(found, expected, t) }
    }

    /// Returns the part of the tolerance used; infinite if nothing could be compared.
    pub(super) fn used(&self) -> f64 {
        self.result.as_ref().map_or(f64::INFINITY, |d| d.used)
    }

    pub(super) fn passes(&self) -> bool {
        self.result.as_ref().is_ok_and(|d| d.used <= 1.0)
    }
}

/// Compares two tensors. Returns an error if the shapes differ or there is nothing to compare.
fn compare(found: &Tensor, expected: &Tensor, t: Tolerance) -> Result<Difference, String> {
    if found.shape() != expected.shape() {
        return Err(format!("expected shape {:?}, found {:?}", expected.shape(), found.shape()));
    }
    if found.is_empty() {
        return Err("no values: nothing was compared".to_owned());
    }
    let mut d = Difference { abs: 0.0, rel: 0.0, used: 0.0 };
    for (f, e) in found.to_f64_vec().into_iter().zip(expected.to_f64_vec()) {
        // Equal infinities do not differ; a NaN always does.
        let abs = if f == e { 0.0 } else { (f - e).abs() };
        let abs = if abs.is_nan() { f64::INFINITY } else { abs };
        let part = |of: f64| if abs == 0.0 { 0.0 } else { abs / of };
        d.abs = d.abs.max(abs);
        if e != 0.0 && e.is_finite() {
            d.rel = d.rel.max(part(e.abs()));
        }
        let allowed = if e.is_finite() { t.atol + t.rtol * e.abs() } else { t.atol };
        d.used = d.used.max(part(allowed));
    }
    Ok(d)
}

/// Formats the rows as a table.
pub(super) fn text(rows: &[Row], what: &str) -> String {
    let headings = [what, "shape", ">max abs diff", ">max rel diff", ">of tolerance", "verdict"];
    let cells = rows.iter().map(|r| {
        let shape = format!("{:?}", r.shape);
        match &r.result {
            Ok(d) => {
                let [abs, rel] = [d.abs, d.rel].map(|x| format!("{x:.3e}"));
                let verdict = if r.passes() { "within tolerance" } else { "DIFFERS" };
                [r.name.clone(), shape, abs, rel, times(d.used), verdict.to_owned()]
            }
            Err(why) => {
                let none = || "-".to_owned();
                [r.name.clone(), shape, none(), none(), none(), why.clone()]
            }
        }
    });
    output::table(&headings, cells)
}

/// How many times a difference is the allowed one.
fn times(x: f64) -> String {
    if x < 100.0 { format!("{x:.3}×") } else { format!("{x:.1e}×") }
}

/// Formats the rows as JSON, where null stands for infinity.
pub(super) fn json(rows: &[Row]) -> serde_json::Value {
    let row = |r: &Row| match &r.result {
        Ok(d) => json!({ "name": r.name, "shape": r.shape, "max_abs_diff": d.abs, "max_rel_diff": d.rel,
                         "of_tolerance": d.used, "passes": r.passes() }),
        Err(why) => json!({ "name": r.name, "shape": r.shape, "problem": why, "passes": false }),
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(found: &[f32], expected: &[f32]) -> Difference {
        let t = |v: &[f32]| Tensor::new(&[v.len()], v.to_vec());
        compare(&t(found), &t(expected), Tolerance { atol: 0.1, rtol: 0.0 }).expect("equal shapes")
    }

    #[test]
    fn nan_is_a_difference_even_from_nan() {
        assert!(of(&[f32::NAN], &[0.0]).used > 1.0);
        assert!(of(&[0.0], &[f32::NAN]).used > 1.0);
        assert!(of(&[f32::NAN], &[f32::NAN]).used > 1.0);
        assert!(of(&[f32::INFINITY], &[f32::NEG_INFINITY]).used > 1.0);
        assert_eq!(of(&[f32::INFINITY], &[f32::INFINITY]).used, 0.0);
    }

    #[test]
    fn the_worst_number_decides() {
        let d = of(&[1.0, 2.0, 3.0], &[1.0, 2.05, 3.2]);
        assert!((d.abs - 0.2).abs() < 1e-6 && (d.used - 2.0).abs() < 1e-5, "{d:?}");
        let zero = Tolerance { atol: 0.0, rtol: 0.0 };
        let t = |x: f32| Tensor::new(&[1], vec![x]);
        assert_eq!(compare(&t(1.0), &t(1.0), zero).expect("shapes").used, 0.0);
        assert!(compare(&t(1.0), &t(1.0 + f32::EPSILON), zero).expect("shapes").used > 1.0);
        assert!(compare(&t(1.0), &Tensor::new(&[1, 1], vec![1.0f32]), zero).is_err());
        let none = Tensor::new(&[0, 7], Vec::<f32>::new());
        assert!(compare(&none, &none, zero).is_err());
    }
}
