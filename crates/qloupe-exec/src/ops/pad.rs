//! Pad: a border around a tensor, or a negative one.

use qloupe_tensor::Tensor;

use super::axis_maps::runs;
use super::movement::{copy_runs, number, reserved};
use super::movement_gradient::moved;
use super::parameters::{KnownList, integer_list, open_dim};
use crate::operator::resolve_axis;
use crate::{
    Differentiable, EvalContext, Fact, InferContext, OpError, Operator, Pullback, PullbackContext, SymDim,
};

/// Adds (or, where negative, removes) elements at both ends of the axes: a constant, or copies of the tensor's own.
#[derive(Debug)]
pub(super) struct Pad;

/// Where the elements of a border come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Constant,
    Edge,
    Reflect,
    Wrap,
}

/// The input index of each output index along an axis; `None` is the constant.
fn sources(size: usize, begin: i64, end: i64, mode: Mode) -> Result<Vec<Option<usize>>, OpError> {
    let n = size as i64;
    let total = n.saturating_add(begin).saturating_add(end);
    let total = usize::try_from(total)
        .ok()
        .filter(|_| begin.unsigned_abs().max(end.unsigned_abs()) <= 1 << 40)
        .ok_or_else(|| {
            OpError::input(
                1,
                format!("impossible pads, expected a size of at least 0, got {size} with {begin} and {end}"),
            )
        })?;
    if n == 0 && mode != Mode::Constant && total > 0 {
        return Err(OpError::input(0, "empty axis, expected elements to pad with"));
    }
    // What negative pads remove does not come back as the other end of a wrap.
    let (first, kept) = (
        begin.min(0).saturating_neg(),
        n.saturating_add(begin.min(0)).saturating_add(end.min(0)),
    );
    if kept <= 0 && mode == Mode::Wrap && total > 0 {
        return Err(OpError::input(0, "empty axis, expected elements to pad with"));
    }
    let source = |i: i64| match mode {
        Mode::Constant => (0..n).contains(&i).then_some(i),
        Mode::Edge => Some(i.clamp(0, n - 1)),
        Mode::Wrap => Some(first + (i - first).rem_euclid(kept)),
        Mode::Reflect if n == 1 => Some(0),
        Mode::Reflect => {
            let phase = i.rem_euclid(2 * (n - 1));
            Some(phase.min(2 * (n - 1) - phase))
        }
    };
    let mut sources = reserved(total)?;
    sources.extend((0..total as i64).map(|i| source(i - begin).map(|s| s as usize)));
    Ok(sources)
}

/// The pads of every axis from a list that covers `axes` (all of them by default).
fn spread<T: Clone>(pads: &[T], axes: Option<&[i64]>, rank: usize, zero: &T) -> Result<Vec<(T, T)>, OpError> {
    let every: Vec<i64> = (0..rank as i64).collect();
    let axes = axes.unwrap_or(&every);
    if pads.len() != 2 * axes.len() {
        return Err(OpError::input(
            1,
            format!(
                "wrong length, expected {} pads, got {}",
                2 * axes.len(),
                pads.len()
            ),
        ));
    }
    let mut spread = vec![(zero.clone(), zero.clone()); rank];
    for (i, &axis) in axes.iter().enumerate() {
        spread[resolve_axis(axis, rank)?] = (pads[i].clone(), pads[axes.len() + i].clone());
    }
    Ok(spread)
}

impl Operator for Pad {
    fn op_type(&self) -> &'static str {
        "Pad"
    }

    fn since_version(&self) -> i64 {
        2
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let Some(shape) = &x.shape else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let axes = KnownList::new(ctx, 3, "");
        let pads = KnownList::new(ctx, 1, "pads");
        let (KnownList::Known(pads), false) = (pads, matches!(axes, KnownList::Unknown)) else {
            let open = (0..shape.len()).map(|axis| open_dim(ctx, 0, axis)).collect();
            return Ok(vec![Fact::new(x.dtype, Some(open))]);
        };
        let pads = spread(&pads, axes.numbers().as_deref(), shape.len(), &SymDim::known(0))?;
        let dims = shape
            .iter()
            .zip(&pads)
            .map(|(dim, (begin, end))| dim.plus(begin).plus(end));
        Ok(vec![Fact::new(x.dtype, Some(dims.collect()))])
    }

    fn as_differentiable(&self) -> Option<&dyn Differentiable> {
        Some(self)
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let mode = match ctx.string("mode", "constant") {
            "constant" => Mode::Constant,
            "edge" => Mode::Edge,
            "reflect" => Mode::Reflect,
            "wrap" => Mode::Wrap,
            other => {
                return Err(OpError::attribute(
                    "mode",
                    format!("unknown, expected constant, edge, reflect or wrap, got {other}"),
                ));
            }
        };
        let pads = integer_list(ctx, 1, "pads")?
            .ok_or_else(|| OpError::attribute("pads", "absent, expected a list of integers"))?;
        let axes = integer_list(ctx, 3, "")?;
        let pads = spread(&pads, axes.as_deref(), x.rank(), &0)?;
        let fill = match ctx.input(2) {
            Some(value) if value.len() == 1 => value.clone(),
            Some(value) => {
                return Err(OpError::input(
                    2,
                    format!("wrong number of elements, expected 1, got {}", value.len()),
                ));
            }
            None if ctx.node.float("value").is_some_and(|v| v != 0.0) => {
                Tensor::scalar(ctx.float("value", 0.0))
            }
            None => number(x.dtype(), 0)?,
        };
        let maps = x
            .shape()
            .iter()
            .zip(&pads)
            .map(|(&size, &(begin, end))| sources(size, begin, end, mode))
            .collect::<Result<Vec<_>, _>>()?;
        let shape: Vec<usize> = maps.iter().map(Vec::len).collect();
        Ok(vec![copy_runs(&[x, &fill], &shape, runs(x.shape(), &maps))?])
    }
}

impl Differentiable for Pad {
    fn pullback<'a>(&self, ctx: &PullbackContext<'a>) -> Result<Pullback<'a>, OpError> {
        let mut node = ctx.call.node.clone();
        node.attributes.retain(|attribute| attribute.name != "value");
        let mut inputs = ctx.call.inputs.to_vec();
        if let Some(fill) = inputs.get_mut(2) {
            *fill = None;
        }
        let call = EvalContext {
            node: &node,
            opset: ctx.call.opset,
            layout: ctx.call.layout,
            inputs: &inputs,
        };
        moved(self, &call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_every_mode() {
        struct Case(Mode, [i64; 7]);
        let cases = [
            Case(Mode::Constant, [-1, -1, 0, 1, 2, -1, -1]),
            Case(Mode::Edge, [0, 0, 0, 1, 2, 2, 2]),
            Case(Mode::Reflect, [2, 1, 0, 1, 2, 1, 0]),
            Case(Mode::Wrap, [1, 2, 0, 1, 2, 0, 1]),
        ];
        for Case(mode, expected) in cases {
            let got = sources(3, 2, 2, mode).unwrap();
            let got: Vec<i64> = got.iter().map(|s| s.map_or(-1, |s| s as i64)).collect();
            assert_eq!(got, expected, "{mode:?}");
        }
        assert_eq!(sources(3, -1, -1, Mode::Constant), Ok(vec![Some(1)]));
        let wrapped = [1, 2, 1, 2].map(Some).to_vec();
        assert_eq!(
            sources(3, -1, 2, Mode::Wrap),
            Ok(wrapped),
            "what is removed does not come back"
        );
        assert!(
            sources(3, i64::MIN, i64::MAX, Mode::Edge).is_err(),
            "pads that overflow"
        );
        assert_eq!(
            sources(3, -2, -2, Mode::Constant).unwrap_err().to_string(),
            "input 1: impossible pads, expected a size of at least 0, got 3 with -2 and -2"
        );
    }
}
