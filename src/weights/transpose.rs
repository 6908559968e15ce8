//! Streams the transpose of a matrix: one thread gathers a band of rows while another writes the one before.
//!
//! `Linear` stores its weight `[out, in]` and a matrix product wants `[in, out]`, so most bytes of a
//! checkpoint pass here. Bands fit the second-level cache; nothing as large as the matrix is allocated.

use crate::ir::transpose_band;
use std::io::{Result, Write};
use std::sync::mpsc;

/// Rows of a band are a multiple of this, whole cache lines of the matrix.
const STEP: usize = 16;
/// Elements of a band, about 1 MiB.
const BAND: usize = 1 << 18;

/// Writes the transpose of a row-major `[rows, columns]` matrix of 4-byte elements.
pub(super) fn write(from: &[u32], rows: usize, columns: usize, out: &mut dyn Write) -> Result<()> {
    let height = (BAND / rows.max(1)).next_multiple_of(STEP).max(STEP);
    if columns <= height {
        return out.write_all(bytemuck::cast_slice(&band(from, rows, columns, 0, columns, Vec::new())));
    }
    std::thread::scope(|scope| {
        // Three buffers go round: one being filled, one waiting, one being written.
        let (full, filled) = mpsc::sync_channel::<Vec<u32>>(1);
        let (empty, spare) = mpsc::channel::<Vec<u32>>();
        scope.spawn(move || {
            for first in (0..columns).step_by(height) {
                let buffer = spare.try_recv().unwrap_or_default();
                let last = (first + height).min(columns);
                // The writer is gone after an error; there is nobody left to gather for.
                if full.send(band(from, rows, columns, first, last, buffer)).is_err() {
                    return;
                }
            }
        });
        for band in filled {
            out.write_all(bytemuck::cast_slice(&band))?;
            // The gatherer may have finished already.
            let _ = empty.send(band);
        }
        Ok(())
    })
}

/// Columns `first..last` of the matrix, as rows.
fn band(from: &[u32], rows: usize, columns: usize, first: usize, last: usize, mut to: Vec<u32>) -> Vec<u32> {
    to.resize((last - first) * rows, 0);
    transpose_band(from, rows, columns, first..last, &mut to);
    to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_finds_its_place() {
        for (rows, columns) in [(1, 1), (3, 5), (40, 33), (1000, 700), (4096, 100), (1, 300), (300, 1), (0, 4), (4, 0)]
        {
            let from: Vec<u32> = (0..rows * columns).map(|i| i as u32).collect();
            let mut out = Vec::new();
            write(&from, rows, columns, &mut out).expect("memory takes everything");
            let want: Vec<u32> = (0..columns).flat_map(|c| (0..rows).map(move |r| (r * columns + c) as u32)).collect();
            assert_eq!(out, bytemuck::cast_slice::<u32, u8>(&want), "{rows} × {columns}");
        }
    }

    #[test]
    fn a_full_disk_ends_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> Result<()> {
                Ok(())
            }
        }
        let from = vec![0; 2048 * 2048];
        assert_eq!(write(&from, 2048, 2048, &mut Full).expect_err("full").kind(), std::io::ErrorKind::StorageFull);
    }
}
