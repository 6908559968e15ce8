//! A color map: from dark to bright, even in lightness, legible without color vision.

/// Returns the color of `t` in 0..=1 on matplotlib's `inferno` scale, by the polynomial of degree six that Matt
/// Zucker fitted to it (public domain); within 1/50 of the table everywhere.
pub(super) fn inferno(t: f32) -> [f32; 3] {
    const C: [[f32; 3]; 7] = [
        [0.000_218_94, 0.001_651, -0.019_480_9],
        [0.106_513_42, 0.563_956_44, 3.932_712_4],
        [11.602_493, -3.972_854, -15.942_394],
        [-41.703_995, 17.436_4, 44.354_145],
        [77.162_94, -33.402_36, -81.807_31],
        [-71.319_43, 32.626_064, 73.209_52],
        [25.131_126, -12.242_669, -23.070_325],
    ];
    let t = t.clamp(0.0, 1.0);
    std::array::from_fn(|c| C.iter().rev().fold(0.0, |sum, k| sum * t + k[c]).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brighter_means_more() {
        let luma = |t| {
            let [r, g, b] = inferno(t);
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let steps: Vec<f32> = (0..=50u8).map(|i| luma(f32::from(i) / 50.0)).collect();
        assert!(steps.windows(2).all(|w| w[1] >= w[0] - 1e-3), "{steps:?}");
        assert!(steps[0] < 0.02 && steps[50] > 0.9);
        let [r, g, b] = inferno(0.5);
        // matplotlib: (0.735683, 0.215906, 0.330245)
        assert!((r - 0.7357).abs() < 0.02 && (g - 0.2159).abs() < 0.02 && (b - 0.3302).abs() < 0.02);
    }
}
