//! How far the channels of an activation reach, and whether a few of them are why its one scale is coarse.

use qloupe_exec::Stored;
use qloupe_ir::Node;

/// At most one channel in so many is an outlier; at least one may be.
const ONE_IN: usize = 32;
/// Without outliers the range would be narrower by this factor at least: one bit more for all other channels.
const LEAST_TIMES: f64 = 2.0;

/// The channels that stretch a range, and what they cost the others.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outliers {
    /// The largest first.
    pub(super) channels: Vec<usize>,
    /// How many times as wide they make the range.
    pub(super) times: f64,
}

/// The axis of the channels in what a product by a weight gives; `None` for other operators.
pub(super) fn channel_axis(main: &Node, rank: usize) -> Option<usize> {
    match main.op_type.as_str() {
        "Conv" | "ConvTranspose" => (rank > 1).then_some(1),
        "Gemm" | "MatMul" => rank.checked_sub(1),
        _ => None,
    }
}

/// The smallest and the largest value of each channel, 0 among them: ranges hold it.
pub(super) fn ranges(value: &Stored, axis: usize) -> Vec<(f32, f32)> {
    let value = value.to_plain();
    let shape = value.shape();
    let (Some(values), Some(&n_channels)) = (value.as_slice::<f32>(), shape.get(axis)) else {
        return Vec::new();
    };
    let inner: usize = shape[axis + 1..].iter().product();
    let mut ranges = vec![(0.0_f32, 0.0_f32); n_channels];
    if n_channels * inner > 0 {
        for (row, values) in values.chunks(inner).enumerate() {
            let (min, max) = &mut ranges[row % n_channels];
            for v in values.iter().filter(|v| v.is_finite()) {
                (*min, *max) = (min.min(*v), max.max(*v));
            }
        }
    }
    ranges
}

/// Widens ranges by those of another sample.
pub(super) fn merge(all: &mut Vec<(f32, f32)>, sample: &[(f32, f32)]) {
    if all.is_empty() {
        all.extend_from_slice(sample);
    }
    for ((min, max), (low, high)) in all.iter_mut().zip(sample) {
        (*min, *max) = (min.min(*low), max.max(*high));
    }
}

/// The fewest channels without which the range is much narrower.
pub(super) fn outliers(ranges: &[(f32, f32)]) -> Option<Outliers> {
    let reach = |idx: &usize| f64::from(ranges[*idx].1).max(-f64::from(ranges[*idx].0));
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by(|a, b| reach(b).total_cmp(&reach(a)));
    let width = |channels: &[usize]| {
        let of = |side: &dyn Fn(&(f32, f32)) -> f32| {
            let sides = channels.iter().map(|&idx| f64::from(side(&ranges[idx])));
            sides.fold(0.0, f64::max)
        };
        of(&|range| range.1) + of(&|range| -range.0)
    };
    let all = width(&order);
    let n_most = (ranges.len() / ONE_IN).max(1).min(ranges.len().saturating_sub(1));
    (1..=n_most).find_map(|n| {
        let times = all / width(&order[n..]).max(f64::MIN_POSITIVE);
        (times >= LEAST_TIMES && times.is_finite()).then(|| Outliers {
            channels: order[..n].to_vec(),
            times,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_large_channel_is_an_outlier_and_a_spread_is_not() {
        let mut ranges = vec![(-1.0_f32, 1.0_f32); 40];
        assert_eq!(outliers(&ranges), None);
        ranges[7] = (0.0, 9.0);
        let expected = Outliers {
            channels: vec![7],
            times: 5.0,
        };
        assert_eq!(outliers(&ranges), Some(expected));
        for (idx, range) in ranges.iter_mut().enumerate() {
            *range = (0.0, 1.05_f32.powi(idx as i32));
        }
        assert_eq!(outliers(&ranges), None, "each is a little larger than the next");
        assert_eq!(outliers(&[(0.0, 1.0)]), None, "nothing is left beside it");
    }
}
