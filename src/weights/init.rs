//! Initial values, drawn as PyTorch's modules draw theirs.
//!
//! Invariant: element `i` of a parameter depends on the seed, the parameter's path and `i` only,
//! on every machine: any tensor, or any part of one, can be made alone and in any order. All
//! values are `f32` numbers, also where they are stored wider, so that models of different
//! precision start equal. The logarithm and the angle functions are polynomials here, because
//! those of the system's libraries differ in the last bit (and these run in vector registers).

use super::WeightError;
use super::philox::philox;
use crate::ir::{DType, Element, Init, Tensor};
use crate::with_dtype;
use std::f32::consts::PI;

/// Random words, hence elements, per block of the generator.
const BLOCK: usize = 4;

/// The whole tensor for the parameter `path` of a model initialized with `seed`.
pub fn fill(init: &Init, seed: u64, path: &str, shape: &[usize], dtype: DType) -> Result<Tensor, WeightError> {
    let generator = Generator::new(init, seed, path, shape, dtype)?;
    let mut bytes = Vec::with_capacity(generator.elements * dtype.size());
    generator.write(0, generator.elements, &mut bytes);
    Ok(Tensor::from_le_bytes(dtype, shape, &bytes).expect("as many bytes as the type says"))
}

/// The elements of one initial tensor, in ranges.
#[derive(Clone, Debug)]
pub struct Generator {
    draw: Draw,
    key: [u32; 2],
    stream: [u32; 2],
    elements: usize,
    dtype: DType,
}

#[derive(Clone, Debug)]
enum Draw {
    Constant(f32),
    Normal(f32),
    Uniform(f32),
    Bytes(Vec<u8>),
}

impl Generator {
    /// For the parameter `path` of `shape`, stored as `dtype`.
    ///
    /// # Errors
    /// When the shape has too many elements to address, a literal has another shape, or the weight program computes the
    /// parameter.
    pub fn new(init: &Init, seed: u64, path: &str, shape: &[usize], dtype: DType) -> Result<Self, WeightError> {
        let wrong = |what: String| WeightError::InitialValue { path: path.to_owned(), what };
        let elements = shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .filter(|n| n.checked_mul(size_of::<u64>()).is_some_and(|bytes| isize::try_from(bytes).is_ok()))
            .ok_or_else(|| wrong(format!("the shape {shape:?} has too many elements")))?;
        let draw = match init {
            Init::Constant(x) => Draw::Constant(x.0 as f32),
            Init::Normal(std) => Draw::Normal(std.0 as f32),
            Init::Uniform(bound) => Draw::Uniform(bound.0 as f32),
            Init::Value(literal) if literal.tensor().shape() == shape => {
                Draw::Bytes(literal.tensor().cast(dtype).to_le_bytes())
            }
            Init::Value(literal) => {
                return Err(wrong(format!("expected the shape {shape:?}, found {:?}", literal.tensor().shape())));
            }
            Init::Computed => {
                return Err(wrong("the weight program computes it; there is nothing to initialize".to_owned()));
            }
        };
        let stream = words(xxhash_rust::xxh3::xxh3_64(path.as_bytes()));
        Ok(Self { draw, key: words(seed), stream, elements, dtype })
    }

    /// Appends the little-endian bytes of the elements `start..start + count`, cut to the tensor's end.
    pub fn write(&self, start: usize, count: usize, out: &mut Vec<u8>) {
        const CHUNK: usize = 4096;
        let end = start.saturating_add(count).min(self.elements);
        if let Draw::Bytes(bytes) = &self.draw {
            let size = self.dtype.size();
            out.extend_from_slice(&bytes[start.min(end) * size..end * size]);
            return;
        }
        let mut buffer = [0.0f32; CHUNK];
        let mut at = start;
        while at < end {
            let part = &mut buffer[..(end - at).min(CHUNK)];
            self.floats(at, part);
            with_dtype!(self.dtype, A => for &x in part.iter() {
                A::from_number(f64::from(x).into()).put(out);
            });
            at += part.len();
        }
    }

    /// The elements from `start` on, as drawn.
    fn floats(&self, start: usize, out: &mut [f32]) {
        match self.draw {
            Draw::Constant(x) => out.fill(x),
            Draw::Uniform(bound) => self.blocks(start, out, |w| w.map(|w| centered(w) * bound)),
            Draw::Normal(std) => self.blocks(start, out, |[a, b, c, d]| {
                let ((x, y), (z, w)) = (normal_pair(a, b), normal_pair(c, d));
                [x * std, y * std, z * std, w * std]
            }),
            Draw::Bytes(_) => unreachable!("computed values are copied, not drawn"),
        }
    }

    /// Fills `out` with the elements from `start` on, a block of random words at a time.
    #[inline]
    fn blocks(&self, start: usize, out: &mut [f32], draw: impl Fn([u32; 4]) -> [f32; 4]) {
        let block = |index: usize| {
            let [low, high] = words(index as u64);
            draw(philox([low, high, self.stream[0], self.stream[1]], self.key))
        };
        let skipped = start % BLOCK;
        let mut index = start / BLOCK;
        let mut rest = out;
        if skipped != 0 {
            let (head, tail) = rest.split_at_mut((BLOCK - skipped).min(rest.len()));
            head.copy_from_slice(&block(index)[skipped..skipped + head.len()]);
            (index, rest) = (index + 1, tail);
        }
        let (whole, last) = rest.as_chunks_mut::<BLOCK>();
        for (i, chunk) in whole.iter_mut().enumerate() {
            *chunk = block(index + i);
        }
        last.copy_from_slice(&block(index + whole.len())[..last.len()]);
    }
}

const fn words(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// Uniform on `[-1, 1)`, a multiple of `2^-23`: times a bound it never reaches the bound.
#[inline]
fn centered(word: u32) -> f32 {
    const STEP: f32 = 1.0 / (1 << 23) as f32;
    ((word >> 8) as i32 - (1 << 23)) as f32 * STEP
}

/// Two independent standard normals (Box and Muller): radius from one word, angle from the other.
#[inline]
fn normal_pair(radius: u32, angle: u32) -> (f32, f32) {
    const STEP: f32 = 1.0 / 4_294_967_296.0;
    let r = (-2.0 * ln((radius as f32 + 1.0) * STEP)).sqrt();
    let (sin, cos) = sin_cos_turn(angle);
    (r * cos, r * sin)
}

/// Natural logarithm of a positive normal number, to about one unit in the last place (Cephes `logf`).
#[inline]
#[allow(clippy::excessive_precision)]
fn ln(x: f32) -> f32 {
    const SQRT_HALF_BITS: u32 = 0x3f35_04f3;
    const ONE_BITS: u32 = 0x3f80_0000;
    // x = 2^e * m with m in [√½, √2).
    let bits = x.to_bits().wrapping_add(ONE_BITS - SQRT_HALF_BITS);
    let e = ((bits >> 23) as i32 - 127) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff) + SQRT_HALF_BITS) - 1.0;
    let mut p = 7.037_683_6e-2;
    for c in [
        -1.151_461e-1,
        1.167_699_9e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_7e-1,
        2.000_071_5e-1,
        -2.499_999_4e-1,
        3.333_333_1e-1,
    ] {
        p = p * m + c;
    }
    let z = m * m;
    let y = m * z * p - 2.121_944_4e-4 * e - 0.5 * z;
    m + y + 0.693_359_375 * e
}

/// Sine and cosine of `turn / 2^32` full turns. The reduction to an eighth turn is exact, being
/// integer arithmetic; the polynomials are those of Cephes `sinf` and `cosf`.
#[inline]
#[allow(clippy::excessive_precision)]
fn sin_cos_turn(turn: u32) -> (f32, f32) {
    const STEP: f32 = PI / 2_147_483_648.0;
    let quarter = turn.wrapping_add(1 << 29) >> 30;
    let x = turn.wrapping_sub(quarter << 30) as i32 as f32 * STEP;
    let z = x * x;
    let s = ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 1.666_665_5e-1) * z * x + x;
    let c = ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2) * z * z - 0.5 * z + 1.0;
    let (a, b) = if quarter & 1 == 0 { (s, c) } else { (c, s) };
    let negate = |v: f32, yes: u32| f32::from_bits(v.to_bits() ^ (yes << 31));
    (negate(a, quarter >> 1), negate(b, (quarter >> 1) ^ (quarter & 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Literal, Real};

    const N: usize = 1 << 17;

    fn draw(init: &Init, seed: u64, path: &str, shape: &[usize]) -> Vec<f32> {
        fill(init, seed, path, shape, DType::F32).expect("drawn").to_vec().expect("f32")
    }
    fn moment(x: &[f32], power: i32) -> f64 {
        x.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / x.len() as f64
    }

    #[test]
    fn normals_have_the_moments_of_normals() {
        let x = draw(&Init::NORMAL, 7, "pos_embedding", &[N]);
        for (power, expected, tolerance) in [(1, 0.0, 0.015), (2, 1.0, 0.02), (3, 0.0, 0.04), (4, 3.0, 0.1)] {
            assert!((moment(&x, power) - expected).abs() < tolerance, "moment {power}: {}", moment(&x, power));
        }
        let tail = x.iter().filter(|x| x.abs() > 2.0).count() as f64 / N as f64;
        assert!((tail - 0.0455).abs() < 0.003, "{tail}");
        let neighbors: f64 = x.windows(2).map(|w| f64::from(w[0] * w[1])).sum::<f64>() / N as f64;
        assert!(neighbors.abs() < 0.015, "{neighbors}");
        let scaled = draw(&Init::Normal(Real(0.02)), 7, "pos_embedding", &[N]);
        assert!(x.iter().zip(&scaled).all(|(x, y)| x * 0.02 == *y));
    }

    #[test]
    fn uniforms_fill_their_interval_and_stay_inside() {
        let bound = 1.0 / 24.0f32.sqrt();
        let x = draw(&Init::fan_in(24), 7, "net.0.weight", &[N]);
        assert!(x.iter().all(|x| (-bound..bound).contains(x)));
        assert!(x.iter().any(|&x| x < -0.999 * bound) && x.iter().any(|&x| x > 0.999 * bound));
        assert!(moment(&x, 1).abs() < 0.002);
        assert!((moment(&x, 2) - f64::from(bound).powi(2) / 3.0).abs() < 2e-4);
        assert_eq!((centered(0), centered(1 << 31)), (-1.0, 0.0));
        for bound in [1.0f32, 1.0 / 3.0, 1.999_999_9, 1.000_000_1, 0.1, 1e-30] {
            assert!(centered(u32::MAX) * bound < bound && centered(0) * bound == -bound);
        }
    }

    #[test]
    fn any_part_can_be_made_alone() {
        for init in [Init::NORMAL, Init::fan_in(9), Init::ONES] {
            for dtype in DType::ALL {
                let g = Generator::new(&init, 3, "w", &[23, 401], dtype).expect("made");
                let whole = fill(&init, 3, "w", &[23, 401], dtype).expect("filled").to_le_bytes();
                for (start, count) in [(0, 9223), (0, 1), (1, 1), (2, 3), (3, 6), (4095, 4100), (9220, 99), (9999, 1)] {
                    let mut part = Vec::new();
                    g.write(start, count, &mut part);
                    let (a, b) = (start.min(9223) * dtype.size(), (start + count).min(9223) * dtype.size());
                    assert_eq!(part, whole[a..b], "{init:?} {dtype} {start}+{count}");
                }
            }
        }
    }

    #[test]
    fn paths_and_seeds_differ_and_types_agree() {
        let x = draw(&Init::NORMAL, 1, "a", &[64]);
        for other in [draw(&Init::NORMAL, 1, "b", &[64]), draw(&Init::NORMAL, 2, "a", &[64])] {
            assert!(x.iter().zip(&other).all(|(x, y)| x != y));
        }
        assert_eq!(x, draw(&Init::NORMAL, 1, "a", &[4, 16]));
        let wide = fill(&Init::NORMAL, 1, "a", &[64], DType::F64).expect("filled");
        assert_eq!(wide.to_f64_vec(), x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    }

    #[test]
    fn constants_and_computed_values_are_what_they_say() {
        assert_eq!(draw(&Init::Constant(Real(0.1)), 0, "g", &[2]), [0.1, 0.1]);
        assert_eq!(fill(&Init::ZEROS, 0, "n", &[], DType::I64).expect("filled"), Tensor::scalar(0i64));
        let table = Init::Value(Literal::new(Tensor::new(&[3], vec![4i64, 5, 6])));
        assert_eq!(draw(&table, 0, "t", &[3]), [4.0, 5.0, 6.0]);
        let mut part = Vec::new();
        Generator::new(&table, 0, "t", &[3], DType::I64).expect("made").write(1, 9, &mut part);
        assert_eq!(part, [5i64, 6].map(i64::to_le_bytes).concat());
        let e = fill(&table, 0, "t", &[4], DType::I64).expect_err("another shape").to_string();
        assert_eq!(e, "initial value of `t`: expected the shape [4], found [3]");
        assert!(fill(&Init::ONES, 0, "w", &[usize::MAX, 2], DType::F32).is_err());
        let e = fill(&Init::Computed, 0, "w.mul", &[2], DType::F32).expect_err("never drawn").to_string();
        assert_eq!(e, "initial value of `w.mul`: the weight program computes it; there is nothing to initialize");
        assert!(draw(&Init::NORMAL, 0, "w", &[0, 5]).is_empty());
    }

    /// Models already built from a seed must come out the same tomorrow and on another machine.
    #[test]
    fn the_stream_never_changes() {
        let digest = |init: Init| {
            xxhash_rust::xxh3::xxh3_64(
                &fill(&init, 42, "transformer.layers.0.0.fn.to_qkv.weight", &[10_007], DType::F32)
                    .expect("filled")
                    .to_le_bytes(),
            )
        };
        assert_eq!((digest(Init::NORMAL), digest(Init::fan_in(64))), (0x4a94_38d6_9a97_99f8, 0xe56a_f84a_8c2d_c5d2));
    }

    #[test]
    fn logarithm_and_angles_are_accurate() {
        for i in 0..200_000u32 {
            let w = i.wrapping_mul(0x9e37_79b9);
            let x = (w as f32 + 1.0) / 4_294_967_296.0;
            let exact = f64::from(x).ln();
            assert!((f64::from(ln(x)) - exact).abs() <= 2e-7 * exact.abs().max(1e-7), "ln {x}");
            let (s, c) = sin_cos_turn(w);
            let angle = f64::from(w) / 4_294_967_296.0 * std::f64::consts::TAU;
            assert!((f64::from(s) - angle.sin()).abs() < 2e-7 && (f64::from(c) - angle.cos()).abs() < 2e-7, "turn {w}");
        }
    }
}
