//! Streams the transpose of a matrix: one thread gathers a band of rows while another writes the one before.
//!
//! `Linear` stores its weight `[out, in]` and a matrix product wants `[in, out]`, so most bytes of a
//! checkpoint pass here. Bands fit the second-level cache; nothing as large as the matrix is allocated.

use crate::ir::transpose_band;
use bytemuck::Pod;
use std::borrow::Cow;
use std::io::{Result, Write};
use std::ops::Range;
use std::sync::mpsc;

/// Rows of a band are a multiple of this, whole cache lines of the matrix.
const STEP: usize = 16;
/// Elements of a band, about 1 MiB.
const BAND: usize = 1 << 18;

/// A row-major `[rows, columns]` matrix as bytes, its elements of `size` bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Matrix<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) size: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Runs `$body` with `$from` the elements of the matrix as unsigned integers of their size.
macro_rules! with_elements {
    (@$t:ty, $m:expr, $from:ident => $body:expr) => {{
        let $from = &*elements::<$t>($m.bytes);
        $body
    }};
    ($m:expr, $from:ident => $body:expr) => {
        match $m.size {
            1 => with_elements!(@u8, $m, $from => $body),
            2 => with_elements!(@u16, $m, $from => $body),
            4 => with_elements!(@u32, $m, $from => $body),
            _ => with_elements!(@u64, $m, $from => $body),
        }
    };
}

/// The elements where they lie, or copied where they are not aligned.
fn elements<A: Pod>(bytes: &[u8]) -> Cow<'_, [A]> {
    bytemuck::try_cast_slice(bytes).map_or_else(|_| Cow::Owned(bytemuck::pod_collect_to_vec(bytes)), Cow::Borrowed)
}

impl Matrix<'_> {
    /// Writes the transpose.
    pub(super) fn write(self, out: &mut dyn Write) -> Result<()> {
        with_elements!(self, from => write(from, self.rows, self.columns, out))
    }

    /// Rows `range` of the transpose: columns of the matrix.
    pub(super) fn band(self, range: Range<usize>) -> Vec<u8> {
        with_elements!(self, from => {
            let band = band(from, self.rows, self.columns, range.start, range.end, Vec::new());
            bytemuck::cast_slice(&band).to_vec()
        })
    }
}

/// Writes the transpose of a row-major `[rows, columns]` matrix.
fn write<A: Pod + Default + Send + Sync>(from: &[A], rows: usize, columns: usize, out: &mut dyn Write) -> Result<()> {
    let height = (BAND / rows.max(1)).next_multiple_of(STEP).max(STEP);
    if columns <= height {
        return out.write_all(bytemuck::cast_slice(&band(from, rows, columns, 0, columns, Vec::new())));
    }
    std::thread::scope(|scope| {
        // Three buffers go round: one being filled, one waiting, one being written.
        let (full, filled) = mpsc::sync_channel::<Vec<A>>(1);
        let (empty, spare) = mpsc::channel::<Vec<A>>();
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
fn band<A: Copy + Default>(
    from: &[A],
    rows: usize,
    columns: usize,
    first: usize,
    last: usize,
    mut to: Vec<A>,
) -> Vec<A> {
    to.resize((last - first) * rows, A::default());
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
    fn elements_of_every_size_and_alignment_are_read() {
        for size in [1, 2, 4, 8] {
            let bytes: Vec<u8> = (0..=6 * size as u8).collect();
            for start in [0, 1] {
                let m = Matrix { bytes: &bytes[start..start + 6 * size], size, rows: 2, columns: 3 };
                let want: Vec<u8> =
                    [0, 3, 1, 4, 2, 5].iter().flat_map(|i| &m.bytes[i * size..][..size]).copied().collect();
                let mut out = Vec::new();
                m.write(&mut out).expect("memory takes everything");
                assert_eq!(out, want, "{size} bytes from {start}");
                assert_eq!(m.band(1..3), want[2 * size..], "{size} bytes from {start}");
            }
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
        let from = vec![0u32; 2048 * 2048];
        assert_eq!(write(&from, 2048, 2048, &mut Full).expect_err("full").kind(), std::io::ErrorKind::StorageFull);
    }
}
