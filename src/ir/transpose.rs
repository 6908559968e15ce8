//! Matrix transposition at the speed of memory.

use std::ops::Range;

/// Side of the tiles: one cache line of 4-byte elements.
const TILE: usize = 16;

/// Writes columns `band` of the row-major `[rows, columns]` matrix to `to`, as rows: `to` is `[band.len(), rows]`.
///
/// Copies tiles through a small buffer, so that every cache line of either side is touched once. Sizes of
/// transformers are powers of two: walking down a column of such a matrix evicts the lines that the next column needs.
///
/// # Panics
/// Panics if a slice is shorter than the sizes say.
pub fn transpose_band<A: Copy + Default>(from: &[A], rows: usize, columns: usize, band: Range<usize>, to: &mut [A]) {
    let mut tile = [[A::default(); TILE]; TILE];
    for r0 in (0..rows).step_by(TILE) {
        let height = TILE.min(rows - r0);
        for c0 in band.clone().step_by(TILE) {
            let width = TILE.min(band.end - c0);
            for (i, line) in tile.iter_mut().enumerate().take(height) {
                line[..width].copy_from_slice(&from[(r0 + i) * columns + c0..][..width]);
            }
            for j in 0..width {
                let line = &mut to[(c0 - band.start + j) * rows + r0..][..height];
                if let Ok(line) = <&mut [A; TILE]>::try_from(&mut *line) {
                    for i in 0..TILE {
                        line[i] = tile[i][j];
                    }
                } else {
                    line.iter_mut().zip(&tile).for_each(|(x, row)| *x = row[j]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_finds_its_place() {
        for (rows, columns, band) in [(1, 1, 0..1), (3, 5, 0..5), (40, 33, 0..33), (33, 70, 17..65), (16, 32, 16..32)] {
            let from: Vec<u32> = (0..rows * columns).map(|i| i as u32).collect();
            let mut to = vec![0; band.len() * rows];
            transpose_band(&from, rows, columns, band.clone(), &mut to);
            let want: Vec<u32> = band.flat_map(|c| (0..rows).map(move |r| (r * columns + c) as u32)).collect();
            assert_eq!(to, want, "{rows} × {columns}");
        }
    }
}
