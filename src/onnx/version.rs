//! The ONNX IR version of each operator set.
//!
//! The source is the table of released versions in the ONNX specification (`docs/Versioning.md`). Runtimes refuse a file
//! whose IR version is newer than they know, so a writer declares the lowest that its operator set allows.

use std::ops::RangeInclusive;

/// Versions of the default operator set that [`ir_version_for`] knows.
pub const OPSETS: RangeInclusive<i64> = 17..=23;

/// Returns the IR version of the first ONNX release with `opset` of the default domain, or `None` outside [`OPSETS`].
pub const fn ir_version_for(opset: i64) -> Option<i64> {
    match opset {
        17 | 18 => Some(8),
        19 | 20 => Some(9),
        21 | 22 => Some(10),
        23 => Some(11),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_specification() {
        let table: Vec<_> = OPSETS.map(ir_version_for).collect();
        assert_eq!(table, [8, 8, 9, 9, 10, 10, 11].map(Some));
        assert_eq!([16, 24, -1].map(ir_version_for), [None; 3]);
    }
}
