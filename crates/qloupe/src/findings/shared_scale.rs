//! A value that has the scale of another one, which is much larger.

use super::{Case, Pattern};
use crate::plan::Precision;
use crate::report::Finding;

/// A shared range this many times as wide as the value costs two bits.
const LEAST_RATIO: f32 = 4.0;

pub(super) struct SharedScale;

impl Pattern for SharedScale {
    fn id(&self) -> &'static str {
        "shared_scale"
    }

    fn title(&self) -> &'static str {
        "a value under the scale of a much larger one"
    }

    fn find(&self, case: &Case<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        for value in &case.plan.values {
            let (Precision::SharedWith(source), Some((min, max))) =
                (&value.precision, case.range(&value.name))
            else {
                continue;
            };
            let params = case.forms.get(&value.name).and_then(|form| form.params());
            let Some(params) = params.filter(|params| params.as_per_tensor().is_some()) else {
                continue;
            };
            let (low, high) = params.real_range(0);
            let times = (high - low) as f32 / (max.max(0.0) - min.min(0.0)).max(f32::MIN_POSITIVE);
            // Where the source itself fills little of the range, it is the range that is wrong.
            let fills = case
                .layer(source)
                .and_then(|layer| layer.seen)
                .is_none_or(|seen| {
                    let own = seen.max.max(0.0) - seen.min.min(0.0);
                    high - low < f64::from(LEAST_RATIO) * own
                });
            if times < LEAST_RATIO || !fills {
                continue;
            }
            found.extend(case.pattern(
                self.id(),
                source,
                (
                    format!(
                        "\"{}\" has the scale of \"{source}\", which is {times:.1} times as wide",
                        value.name
                    ),
                    format!("its values span {min:.4} to {max:.4}, the scale holds {low:.4} to {high:.4}"),
                    format!(
                        "keep \"{}\" in fp16, or split the value before the large part joins it",
                        value.name
                    ),
                ),
            ));
        }
        found
    }
}
