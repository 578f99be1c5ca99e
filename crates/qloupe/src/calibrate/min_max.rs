//! `min_max`: the smallest and the largest value that was seen.

use std::any::Any;

use qloupe_tensor::Range;

use super::{Algorithm, Observer};

/// The whole range, outliers included. The vendor calls it `normal`.
#[derive(Debug)]
pub(super) struct MinMax;

impl Algorithm for MinMax {
    fn id(&self) -> &'static str {
        "min_max"
    }

    fn aliases(&self) -> &'static [&'static str] {
        &["normal", "minmax"]
    }

    fn title(&self) -> &'static str {
        "the whole range that was seen, outliers included"
    }

    fn needs_ranges_only(&self) -> bool {
        true
    }

    fn observer(&self) -> Box<dyn Observer> {
        Box::new(MinMaxObserver(None))
    }
}

struct MinMaxObserver(Option<Range>);

impl Observer for MinMaxObserver {
    fn observe(&mut self, _values: &[f32], range: Range) {
        let before = self.0.unwrap_or(range);
        self.0 = Some(Range {
            min: if range.min < before.min {
                range.min
            } else {
                before.min
            },
            max: if range.max > before.max {
                range.max
            } else {
                before.max
            },
        });
    }

    fn merge(&mut self, other: &dyn Observer) {
        let other = other
            .as_any()
            .downcast_ref::<Self>()
            .expect("invariant: observers of one algorithm");
        if let Some(range) = other.0 {
            self.observe(&[], range);
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn range(&self) -> Range {
        self.0.unwrap_or(Range { min: 0.0, max: 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_covers_every_sample() {
        let mut observer = MinMax.observer();
        let range = |min, max| Range { min, max };
        observer.observe(&[1.0, -2.0], range(-2.0, 1.0));
        observer.observe(&[5.0], range(5.0, 5.0));
        assert_eq!(observer.range(), Range { min: -2.0, max: 5.0 });
        assert_eq!(MinMax.observer().range(), Range { min: 0.0, max: 0.0 });
    }
}
