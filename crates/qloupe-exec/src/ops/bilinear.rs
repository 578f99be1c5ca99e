//! Linear interpolation along height and width at once, in the order ONNX Runtime adds the four neighbours.
//!
//! On quantized values interpolation meets rounding ties all the time; another order of the same sum falls on the other
//! side of them.

use rayon::prelude::*;

/// The neighbours of one output along one axis: two pixels and their weights.
type Neighbours = [(usize, f32); 2];

/// Interpolates `[n, h, w, c]`; `taps` of an axis hold one or two pixels for each output.
///
/// `y = (((w_x1 w_y1) x11 + (w_x2 w_y1) x21) + (w_x1 w_y2) x12) + (w_x2 w_y2) x22`, each product of weights rounded first.
pub(super) fn bilinear(
    x: &[f32],
    [n, h, w, c]: [usize; 4],
    rows: &[Vec<(usize, f32)>],
    columns: &[Vec<(usize, f32)>],
) -> Option<Vec<f32>> {
    let rows: Vec<Neighbours> = rows
        .iter()
        .map(|taps| neighbours(taps, h))
        .collect::<Option<_>>()?;
    let columns: Vec<Neighbours> = columns
        .iter()
        .map(|taps| neighbours(taps, w))
        .collect::<Option<_>>()?;
    let mut y = vec![0.0; n * rows.len() * columns.len() * c];
    let row_length = columns.len() * c;
    if y.is_empty() {
        return Some(y);
    }
    y.par_chunks_mut(row_length).enumerate().for_each(|(idx, out)| {
        let image = &x[idx / rows.len() * h * w * c..][..h * w * c];
        let [(y1, wy1), (y2, wy2)] = rows[idx % rows.len()];
        for (out, [(x1, wx1), (x2, wx2)]) in out.chunks_exact_mut(c).zip(&columns) {
            let pixel = |row: usize, column: usize| &image[(row * w + column) * c..][..c];
            let (x11, x21, x12, x22) = (pixel(y1, *x1), pixel(y1, *x2), pixel(y2, *x1), pixel(y2, *x2));
            let (w11, w21, w12, w22) = (wx1 * wy1, wx2 * wy1, wx1 * wy2, wx2 * wy2);
            for (channel, out) in out.iter_mut().enumerate() {
                *out = w11 * x11[channel] + w21 * x21[channel] + w12 * x12[channel] + w22 * x22[channel];
            }
        }
    });
    Some(y)
}

/// Two neighbours. The last pixel of an axis of `size` has no second one: it counts half twice, as in ONNX Runtime.
fn neighbours(taps: &[(usize, f32)], size: usize) -> Option<Neighbours> {
    match *taps {
        [(pixel, weight)] if pixel + 1 == size => Some([(pixel, weight / 2.0); 2]),
        [only] => Some([only, (only.0, 0.0)]),
        [first, second] => Some([first, second]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_four_pixels_is_their_mean() {
        let middle = vec![vec![(0, 0.5_f32), (1, 0.5)]];
        let y = bilinear(
            &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 6.0, 60.0],
            [1, 2, 2, 2],
            &middle,
            &middle,
        );
        assert_eq!(y.unwrap(), [3.0, 30.0]);
        let third = vec![vec![(0, 1.0_f32)], vec![(1, 1.0)]];
        assert_eq!(
            bilinear(&[1.0, 2.0], [1, 1, 2, 1], &[vec![(0, 1.0)]], &third).unwrap(),
            [1.0, 2.0]
        );
    }
}
