//! How a value of a rewritten graph is told in the units of the user's: `original = rewritten * scale[c] + shift[c]`.

use qloupe_exec::{Layout, Stored};
use qloupe_tensor::Tensor;

/// What a rewrite did to a value.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueMap {
    /// The pass that rewrote it.
    pub pass: String,
    /// The value of the original graph; for a value that a rewrite inserted it has another name.
    pub source: String,
    /// The axis of the channels, not negative.
    pub axis: usize,
    /// One number, or one for each channel.
    pub scale: Vec<f32>,
    /// One for each scale.
    pub shift: Vec<f32>,
}

impl ValueMap {
    /// A map that only scales.
    pub(crate) fn scaled(pass: &str, source: &str, axis: usize, scale: Vec<f32>) -> Self {
        Self {
            pass: pass.to_owned(),
            source: source.to_owned(),
            axis,
            shift: vec![0.0; scale.len()],
            scale,
        }
    }

    /// A rewritten value in the units of the original; as it is where it is no float32 or has other channels.
    pub fn to_original(&self, rewritten: &Stored) -> Stored {
        self.mapped(rewritten, |x, s, t| x * s + t)
    }

    /// An original value in the units of the rewritten graph; as it is where it is no float32 or has other channels.
    pub fn to_rewritten(&self, original: &Stored) -> Stored {
        self.mapped(original, |x, s, t| (x - t) / s)
    }

    /// The map of a value from which `shift` was taken away after it had been rewritten as here.
    pub(crate) fn shifted(&self, pass: &str, shift: &[f32]) -> Self {
        let (n, own) = (self.scale.len().max(shift.len()), self.scale.len());
        let scale: Vec<f32> = (0..n).map(|c| self.scale[c % own]).collect();
        let moved = |c: usize| self.shift[c % own] + scale[c] * shift[c % shift.len()];
        Self {
            pass: format!("{}, {pass}", self.pass),
            source: self.source.clone(),
            axis: self.axis,
            shift: (0..n).map(moved).collect(),
            scale,
        }
    }

    /// What happened, in words.
    pub(crate) fn describe(&self) -> String {
        let least = |numbers: &[f32]| numbers.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = |numbers: &[f32]| numbers.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let is_at = |numbers: &[f32], at: f32| numbers.iter().all(|number| number.to_bits() == at.to_bits());
        let mut changes = Vec::new();
        if !is_at(&self.shift, 0.0) {
            changes.push(format!(
                "less by {:.3} to {:.3}",
                least(&self.shift),
                largest(&self.shift)
            ));
        }
        if changes.is_empty() || !is_at(&self.scale, 1.0) {
            changes.push(format!(
                "divided by {:.3} to {:.3}",
                least(&self.scale),
                largest(&self.scale)
            ));
        }
        format!(
            "{}, channel by channel; figures here are in the units of the original",
            changes.join(", ")
        )
    }

    fn mapped(&self, value: &Stored, map: impl Fn(f32, f32, f32) -> f32) -> Stored {
        let physical = value.physical();
        let shape = physical.shape();
        let axis = match (value.layout(), self.axis) {
            (Layout::Nhwc, 1) => 3,
            (Layout::Nhwc, axis @ (2 | 3)) => axis - 1,
            (_, axis) => axis,
        };
        let n = self.scale.len();
        let dim = if n == 1 { Some(1) } else { shape.get(axis).copied() };
        let Some(values) = physical.as_slice::<f32>().filter(|_| dim == Some(n)) else {
            return value.clone();
        };
        // Elements side by side that have one channel.
        let inner: usize = if n == 1 {
            values.len()
        } else {
            shape[axis + 1..].iter().product()
        };
        let channels = || self.scale.iter().zip(&self.shift);
        let mut mapped = Vec::with_capacity(values.len());
        if inner == 1 {
            for row in values.chunks(n.max(1)) {
                mapped.extend(
                    row.iter()
                        .zip(channels())
                        .map(|(&x, (&scale, &shift))| map(x, scale, shift)),
                );
            }
        } else {
            for (row, (&scale, &shift)) in values.chunks(inner.max(1)).zip(channels().cycle()) {
                mapped.extend(row.iter().map(|&x| map(x, scale, shift)));
            }
        }
        let tensor = Tensor::new(shape, mapped).expect("invariant: as many numbers");
        Stored::of_call(tensor, value.layout())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_meet_whatever_the_order_of_storage() {
        let map = ValueMap {
            shift: vec![1.0, -1.0],
            ..ValueMap::scaled("test", "x", 1, vec![2.0, 0.5])
        };
        let original = Tensor::new(&[1, 2, 1, 2], vec![3.0_f32, 5.0, 0.0, -0.5]).unwrap();
        let plain = Stored::plain(original.clone());
        let nhwc = Stored::of_call(plain.to_nhwc().clone(), Layout::Nhwc);
        for stored in [plain, nhwc] {
            let rewritten = map.to_rewritten(&stored);
            assert_eq!(rewritten.layout(), stored.layout());
            assert_eq!(
                rewritten.to_plain().as_slice::<f32>().unwrap(),
                [1.0, 2.0, 2.0, 1.0]
            );
            assert_eq!(map.to_original(&rewritten).to_plain(), &original);
        }
    }

    #[test]
    fn a_shift_after_a_scale_is_told_in_the_units_of_the_original() {
        let scaled = ValueMap::scaled("scale", "x", 1, vec![2.0, 0.5]);
        let both = scaled.shifted("shift", &[3.0, 8.0]);
        assert_eq!(
            (both.scale.as_slice(), both.shift.as_slice()),
            (&[2.0, 0.5][..], &[6.0, 4.0][..])
        );
        assert_eq!(both.pass, "scale, shift");
        let words = "less by 4.000 to 6.000, divided by 0.500 to 2.000, channel by channel; figures here are in the units of the original";
        assert_eq!(both.describe(), words);
        assert!(
            scaled
                .describe()
                .starts_with("divided by 0.500 to 2.000, channel")
        );
    }

    #[test]
    fn a_value_with_other_channels_stays() {
        let map = ValueMap::scaled("test", "x", 1, vec![2.0, 0.5]);
        let value = Stored::plain(Tensor::new(&[1, 3], vec![1.0_f32, 2.0, 3.0]).unwrap());
        assert_eq!(map.to_original(&value).to_plain(), value.to_plain());
    }
}
