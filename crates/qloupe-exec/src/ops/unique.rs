//! Unique: distinct elements or slices.

use std::cmp::Ordering;

use qloupe_tensor::{DType, Tensor};

use super::movement::{Run, copy_runs};
use super::ordering::{Order, order_of};
use super::parameters::open_dim;
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, Operator};

/// The distinct elements (with `axis`, slices), sorted or by first occurrence; where each occurs first, which one each
/// input element is, and how often it occurs.
#[derive(Debug)]
pub(super) struct Unique;

/// The slices of a tensor along an axis.
#[derive(Clone, Copy, Debug)]
struct Slices {
    outer: usize,
    size: usize,
    inner: usize,
}

impl Slices {
    fn compare(&self, order: &Order<'_>, a: usize, b: usize) -> Ordering {
        let positions = (0..self.outer).flat_map(|o| (0..self.inner).map(move |i| (o, i)));
        let at = |slice: usize, (o, i): (usize, usize)| (o * self.size + slice) * self.inner + i;
        positions
            .map(|p| order(at(a, p), at(b, p)))
            .find(|o| o.is_ne())
            .unwrap_or(Ordering::Equal)
    }
}

/// Groups of equal slices: the members of each, in rising order.
fn groups(slices: Slices, order: &Order<'_>, sorted: bool) -> Vec<Vec<usize>> {
    let mut indices: Vec<usize> = (0..slices.size).collect();
    indices.sort_by(|&a, &b| slices.compare(order, a, b));
    let mut groups: Vec<Vec<usize>> = indices
        .chunk_by(|&a, &b| slices.compare(order, a, b).is_eq())
        .map(<[usize]>::to_vec)
        .collect();
    if !sorted {
        groups.sort_by_key(|group| group[0]);
    }
    groups
}

impl Operator for Unique {
    fn op_type(&self) -> &'static str {
        "Unique"
    }

    fn since_version(&self) -> i64 {
        11
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let axis = ctx.node.int("axis");
        let count = open_dim(ctx, 0, 0);
        let shape = match (axis, &x.shape) {
            (None, _) => Some(vec![count.clone()]),
            (Some(axis), Some(shape)) => {
                let mut dims = shape.clone();
                dims[resolve_axis(axis, shape.len())?] = count.clone();
                Some(dims)
            }
            _ => None,
        };
        let list = |dim| Fact::new(Some(DType::Int64), Some(vec![dim]));
        Ok(vec![
            Fact::new(x.dtype, shape),
            list(count.clone()),
            list(open_dim(ctx, 2, 0)),
            list(count),
        ])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let (mut shape, axis) = match ctx.node.int("axis") {
            Some(axis) => (x.shape().to_vec(), resolve_axis(axis, x.rank())?),
            None => (vec![x.len()], 0),
        };
        let slices = Slices {
            outer: shape[..axis].iter().product(),
            size: shape[axis],
            inner: shape[axis + 1..].iter().product(),
        };
        let groups = groups(slices, &order_of(x)?, ctx.int("sorted", 1) == 1);
        let firsts: Vec<usize> = groups.iter().map(|group| group[0]).collect();
        let mut inverse = vec![0_i64; slices.size];
        for (idx, group) in groups.iter().enumerate() {
            group.iter().for_each(|&member| inverse[member] = idx as i64);
        }
        shape[axis] = firsts.len();
        let start = |o: usize, first: usize| (o * slices.size + first) * slices.inner;
        let firsts_ref = &firsts;
        let runs = (0..slices.outer).flat_map(|o| {
            firsts_ref
                .iter()
                .map(move |&first| Run::contiguous(start(o, first), slices.inner))
        });
        let y = copy_runs(&[x], &shape, runs)?;
        let counts = groups.iter().map(|group| group.len() as i64).collect();
        let firsts = firsts.iter().map(|&first| first as i64).collect();
        Ok(vec![
            y,
            Tensor::vector::<i64>(firsts),
            Tensor::vector::<i64>(inverse),
            Tensor::vector::<i64>(counts),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_sorted_or_by_occurrence() {
        let x = Tensor::vector(vec![2_i32, 1, 1, 3]);
        let order = order_of(&x).unwrap();
        let slices = Slices {
            outer: 1,
            size: 4,
            inner: 1,
        };
        assert_eq!(groups(slices, &order, true), [vec![1, 2], vec![0], vec![3]]);
        assert_eq!(groups(slices, &order, false), [vec![0], vec![1, 2], vec![3]]);
    }
}
