//! Slice: ranges with steps along axes.

use qloupe_tensor::Tensor;

use super::movement::{View, strides_of};
use super::movement_gradient::moved;
use super::parameters::{KnownList, elements_fact, integer_list, open_dim, resolve_axes};
use crate::{
    Differentiable, EvalContext, Fact, InferContext, LayoutRule, OpError, Operator, Pullback,
    PullbackContext, SymDim,
};

/// `x[start:end:step]` along each of `axes`, with the clipping of NumPy.
#[derive(Debug)]
pub(super) struct Slice;

/// First index and number of indices of `start:end:step` over `size` elements.
fn range(start: i64, end: i64, step: i64, size: usize) -> Result<(usize, usize), OpError> {
    if step == 0 {
        return Err(OpError::input(4, "step is 0, expected another number"));
    }
    let size = size as i64;
    let wrap = |i: i64| if i < 0 { i.saturating_add(size) } else { i };
    let (low, high) = if step > 0 { (0, size) } else { (-1, size - 1) };
    let start = wrap(start).clamp(if step > 0 { low } else { 0_i64.min(high) }, high);
    let end = wrap(end).clamp(low, high);
    let distance = if step > 0 { end - start } else { start - end };
    let count = if distance > 0 {
        (distance - 1) / step.saturating_abs() + 1
    } else {
        0
    };
    Ok((start.max(0) as usize, count.max(0) as usize))
}

/// The size of `start:end:step` over an open dimension, where it is certain for every size that is large enough.
fn open_range(start: i64, end: &SymDim, step: i64, dim: &SymDim) -> Option<SymDim> {
    let to_the_end = end == dim || end.as_known().is_some_and(|e| e >= i64::from(i32::MAX));
    let until = match end.as_known() {
        _ if to_the_end => Some(dim.clone()),
        Some(e) if e < 0 => Some(dim.plus(end)),
        _ => None,
    };
    let reversed = step == -1 && start == -1 && end.as_known().is_some_and(|e| e <= -i64::from(i32::MAX));
    if reversed {
        return Some(dim.clone());
    }
    if step <= 0 {
        return None;
    }
    let span = match (start, until) {
        (0.., Some(until)) => until.minus(&SymDim::known(start)),
        (_, Some(_)) if to_the_end => SymDim::known(-start),
        _ => return None,
    };
    Some(
        span.plus(&SymDim::known(step - 1))
            .floor_div(&SymDim::known(step)),
    )
}

impl Operator for Slice {
    fn op_type(&self) -> &'static str {
        "Slice"
    }

    fn layout(&self) -> LayoutRule {
        LayoutRule::Follow
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let Some(shape) = &x.shape else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let starts = KnownList::new(ctx, 1, "starts");
        let ends = KnownList::new(ctx, 2, "ends");
        let axes = match KnownList::new(ctx, 3, "axes") {
            KnownList::Absent => match &starts {
                KnownList::Known(list) => Some((0..list.len() as i64).collect()),
                _ => None,
            },
            list => list.numbers(),
        };
        let Some(axes) = axes else {
            let open = (0..shape.len()).map(|axis| open_dim(ctx, 0, axis)).collect();
            return Ok(vec![Fact::new(x.dtype, Some(open))]);
        };
        let axes = resolve_axes(&axes, shape.len())?;
        let steps = match KnownList::new(ctx, 4, "steps") {
            KnownList::Absent => Some(vec![1; axes.len()]),
            list => list.numbers(),
        };
        let known = |list: &KnownList, i: usize| match list {
            KnownList::Known(list) => list.get(i).cloned(),
            _ => None,
        };
        let mut dims = shape.clone();
        let mut elements = x.elements.clone();
        for (i, &axis) in axes.iter().enumerate() {
            let start = known(&starts, i).and_then(|s| s.as_known());
            let step = steps.as_ref().and_then(|s| s.get(i).copied());
            let parts = (start, known(&ends, i), step);
            let (Some(start), Some(end), Some(step)) = parts else {
                dims[axis] = open_dim(ctx, 0, axis);
                elements = None;
                continue;
            };
            match (dims[axis].as_size(), end.as_known()) {
                (Some(size), Some(end)) => {
                    let (first, count) = range(start, end, step, size)?;
                    dims[axis] = SymDim::from(count);
                    elements = elements.map(|list| {
                        let at = |n: usize| (first as i64 + n as i64 * step) as usize;
                        (0..count).filter_map(|n| list.get(at(n)).cloned()).collect()
                    });
                }
                _ => {
                    dims[axis] =
                        open_range(start, &end, step, &dims[axis]).unwrap_or_else(|| open_dim(ctx, 0, axis));
                    elements = None;
                }
            }
        }
        Ok(vec![match elements {
            Some(elements) => elements_fact(x.dtype, dims, elements),
            None => Fact::new(x.dtype, Some(dims)),
        }])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let absent = |name: &'static str| OpError::attribute(name, "absent, expected a list of integers");
        let starts = integer_list(ctx, 1, "starts")?.ok_or_else(|| absent("starts"))?;
        let ends = integer_list(ctx, 2, "ends")?.ok_or_else(|| absent("ends"))?;
        let axes = integer_list(ctx, 3, "axes")?.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = integer_list(ctx, 4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err(OpError::input(
                1,
                format!(
                    "starts, ends, axes and steps differ in length, expected {}, got {}, {} and {}",
                    starts.len(),
                    ends.len(),
                    axes.len(),
                    steps.len()
                ),
            ));
        }
        resolve_axes(&axes, x.rank())?;
        let mut shape = x.shape().to_vec();
        let mut strides: Vec<isize> = strides_of(&shape).iter().map(|&s| s as isize).collect();
        let mut first = 0;
        for (i, &axis) in axes.iter().enumerate() {
            let axis = ctx.axis(axis, x.rank())?;
            let (start, count) = range(starts[i], ends[i], steps[i], shape[axis])?;
            first += start * strides[axis] as usize;
            shape[axis] = count;
            if count > 1 {
                strides[axis] *= steps[i] as isize;
            }
        }
        Ok(vec![View::new(first, &shape, strides).copy(x, &shape)?])
    }
}

impl Differentiable for Slice {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        moved(self, &ctx.call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_clip_as_in_numpy() {
        struct Case(i64, i64, i64, usize, (usize, usize));
        let cases = [
            Case(1, 4, 1, 5, (1, 3)),
            Case(0, i64::MAX, 2, 5, (0, 3)),
            Case(-2, 9, 1, 5, (3, 2)),
            Case(-1, i64::MIN, -1, 5, (4, 5)),
            Case(9, 0, -2, 5, (4, 2)),
            Case(3, 1, 1, 5, (3, 0)),
            Case(0, 1, 1, 0, (0, 0)),
            Case(-1, i64::MIN, -1, 0, (0, 0)),
        ];
        for Case(start, end, step, size, expected) in cases {
            assert_eq!(
                range(start, end, step, size),
                Ok(expected),
                "{start}:{end}:{step} of {size}"
            );
        }
        assert_eq!(
            range(0, 1, 0, 5).unwrap_err().to_string(),
            "input 4: step is 0, expected another number"
        );
    }

    #[test]
    fn open_dimensions_are_sliced_where_that_is_certain() {
        let h = SymDim::symbol("h");
        let known = SymDim::known;
        let cases = [
            (open_range(0, &known(i64::MAX), 2, &h), Some("floor((h+1)/2)")),
            (open_range(1, &h, 1, &h), Some("h-1")),
            (open_range(0, &known(-1), 1, &h), Some("h-1")),
            (open_range(-1, &known(i64::MAX), 1, &h), Some("1")),
            (open_range(0, &known(3), 1, &h), None),
        ];
        for (got, expected) in cases {
            assert_eq!(got.map(|d| d.to_string()).as_deref(), expected);
        }
    }
}
