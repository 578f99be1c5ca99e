//! Owns resizing of 8-bit pictures: Pillow's `Image.resize`, bit for bit.

use super::pixels::Pixels;

/// The filter of a resize, named as in Pillow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// A triangle, widened when the picture shrinks.
    #[default]
    Bilinear,
    /// Keys' cubic with a = -0.5, widened when the picture shrinks.
    Bicubic,
}

/// Fraction bits of the filter weights: 8 bits of pixel and 2 of headroom (overshoot, sign) fit beside them in 32.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// Resizes a picture as Pillow's `Image.resize((width, height), interpolation)` does.
///
/// Bilinear and bicubic: the filter is widened by the shrinking factor (no aliasing), its weights are fixed-point
/// numbers of 22 fraction bits, rows first, then columns, with 8 bits in between.
///
/// # Edge cases
/// The same size gives the same picture.
/// # Source
/// Pillow 3.3 to 12, `src/libImaging/Resample.c` and `Geometry.c` (`ImagingScaleAffine`); equal in every bit on
/// `testdata/pil/resize`. Pillow 13 takes columns first where the height shrinks much more than the width, which
/// moves some pixels there by a few levels; models are trained with the older order.
pub(super) fn resize(pixels: &Pixels, width: usize, height: usize, interpolation: Interpolation) -> Pixels {
    if (width, height) == (pixels.width, pixels.height) {
        return pixels.clone();
    }
    let filter: Filter = match interpolation {
        Interpolation::Nearest => return nearest(pixels, width, height),
        Interpolation::Bilinear => Filter {
            support: 1.0,
            weight: triangle,
        },
        Interpolation::Bicubic => Filter {
            support: 2.0,
            weight: cubic,
        },
    };
    let rows = if width == pixels.width {
        pixels.clone()
    } else {
        resample_rows(pixels, width, &filter)
    };
    if height == rows.height {
        rows
    } else {
        resample_columns(&rows, height, &filter)
    }
}

struct Filter {
    support: f64,
    weight: fn(f64) -> f64,
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// The weights of one output position: of input positions `first..first + weights.len()`.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

fn taps(size_in: usize, size_out: usize, filter: &Filter) -> Vec<Taps> {
    let scale = size_in as f64 / size_out as f64;
    let stretch = scale.max(1.0);
    let support = filter.support * stretch;
    let inverse = 1.0 / stretch;
    let of = |position: usize| {
        let center = (position as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(size_in);
        let reals: Vec<f64> = (first..end)
            .map(|x| (filter.weight)((x as f64 - center + 0.5) * inverse))
            .collect();
        let total: f64 = reals.iter().sum();
        let weights = reals
            .iter()
            .map(|w| if total == 0.0 { *w } else { w / total })
            .map(|w| (w * f64::from(1 << PRECISION_BITS)).round() as i32)
            .collect();
        Taps { first, weights }
    };
    (0..size_out).map(of).collect()
}

fn weighted_sum(weights: &[i32], values: impl Iterator<Item = u8>) -> u8 {
    let half = 1_i32 << (PRECISION_BITS - 1);
    let sum = weights
        .iter()
        .zip(values)
        .fold(half, |sum, (&weight, value)| sum + weight * i32::from(value));
    u8::try_from((sum >> PRECISION_BITS).clamp(0, 255)).expect("invariant: clamped")
}

fn resample_rows(pixels: &Pixels, width: usize, filter: &Filter) -> Pixels {
    let channels = pixels.channels;
    let taps = taps(pixels.width, width, filter);
    let mut data = Vec::with_capacity(width * pixels.height * channels);
    for row in pixels.data.chunks_exact(pixels.width * channels) {
        for Taps { first, weights } in &taps {
            for channel in 0..channels {
                let values = row[first * channels + channel..].iter().step_by(channels);
                data.push(weighted_sum(weights, values.copied()));
            }
        }
    }
    Pixels {
        width,
        data,
        ..*pixels
    }
}

fn resample_columns(pixels: &Pixels, height: usize, filter: &Filter) -> Pixels {
    let row_length = pixels.width * pixels.channels;
    let mut data = Vec::with_capacity(height * row_length);
    for Taps { first, weights } in taps(pixels.height, height, filter) {
        for column in 0..row_length {
            let values = pixels.data[first * row_length + column..]
                .iter()
                .step_by(row_length);
            data.push(weighted_sum(&weights, values.copied()));
        }
    }
    Pixels {
        height,
        data,
        ..*pixels
    }
}

fn nearest(pixels: &Pixels, width: usize, height: usize) -> Pixels {
    let positions = |size_in: usize, size_out: usize| -> Vec<usize> {
        let scale = size_in as f64 / size_out as f64;
        (0..size_out)
            .map(|x| (((x as f64 + 0.5) * scale) as usize).min(size_in - 1))
            .collect()
    };
    let (columns, rows) = (positions(pixels.width, width), positions(pixels.height, height));
    let mut data = Vec::with_capacity(width * height * pixels.channels);
    for row in rows {
        for &column in &columns {
            let start = (row * pixels.width + column) * pixels.channels;
            data.extend_from_slice(&pixels.data[start..start + pixels.channels]);
        }
    }
    Pixels {
        width,
        height,
        channels: pixels.channels,
        data,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::samples::pixels::decode;

    #[test]
    fn every_pixel_equals_pillow() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/pil/resize");
        let mut n_compared = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let Some((source, (size, filter))) = name
                .split_once("_to_")
                .map(|(source, rest)| (source, rest.split_once('_').unwrap()))
            else {
                continue;
            };
            let (width, height) = size.split_once('x').unwrap();
            let interpolation = match filter {
                "nearest" => Interpolation::Nearest,
                "bilinear" => Interpolation::Bilinear,
                "bicubic" => Interpolation::Bicubic,
                other => panic!("{other}"),
            };
            let channels = if source.starts_with("rgb") { 3 } else { 1 };
            let source = decode(&folder.join(format!("{source}.png")), channels).unwrap();
            let expected = decode(&path, channels).unwrap();
            let got = resize(
                &source,
                width.parse().unwrap(),
                height.parse().unwrap(),
                interpolation,
            );
            assert!(got == expected, "{name} differs");
            n_compared += 1;
        }
        assert_eq!(n_compared, 42);
    }
}
