//! Reading the parameters of operators: lists of integers that are attributes in old operator sets and inputs in new
//! ones, axes, and dimensions that only the data knows.

use qloupe_ir::Node;
use qloupe_tensor::{DType, Tensor};

use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, SymDim};

/// The elements of an int32 or int64 tensor, whatever its shape.
pub(super) fn integers(tensor: &Tensor, idx: usize) -> Result<Vec<i64>, OpError> {
    match (tensor.as_slice::<i64>(), tensor.as_slice::<i32>()) {
        (Some(v), _) => Ok(v.to_vec()),
        (_, Some(v)) => Ok(v.iter().map(|&x| i64::from(x)).collect()),
        _ => Err(OpError::input(
            idx,
            format!("wrong dtype, expected int32 or int64, got {}", tensor.dtype()),
        )),
    }
}

/// An input that must be one integer, of any rank.
pub(super) fn one_integer(ctx: &EvalContext<'_>, idx: usize) -> Result<i64, OpError> {
    let tensor = ctx.require(idx)?;
    match integers(tensor, idx)?[..] {
        [value] => Ok(value),
        _ => Err(not_one_element(tensor, idx)),
    }
}

/// An input that must be one number, of any rank.
pub(super) fn one_number(ctx: &EvalContext<'_>, idx: usize) -> Result<f64, OpError> {
    let tensor = ctx.require(idx)?;
    match tensor.to_f64_vec()?[..] {
        [value] => Ok(value),
        _ => Err(not_one_element(tensor, idx)),
    }
}

fn not_one_element(tensor: &Tensor, idx: usize) -> OpError {
    OpError::input(
        idx,
        format!("wrong shape, expected one element, got {:?}", tensor.shape()),
    )
}

/// The dtype that a number of an attribute stands for.
pub(super) fn dtype_of_number(number: i64, name: &'static str) -> Result<DType, OpError> {
    i32::try_from(number)
        .ok()
        .and_then(DType::from_onnx)
        .ok_or_else(|| {
            OpError::attribute(
                name,
                format!("unknown dtype, expected a TensorProto.DataType, got {number}"),
            )
        })
}

/// An optional attribute that holds a dtype; 0 and absence are `None`.
pub(super) fn dtype_attribute(node: &Node, name: &'static str) -> Result<Option<DType>, OpError> {
    node.int(name)
        .filter(|&number| number != 0)
        .map(|number| dtype_of_number(number, name))
        .transpose()
}

/// An optional list of integers: input `idx`, or else the attribute.
pub(super) fn integer_list(
    ctx: &EvalContext<'_>,
    idx: usize,
    name: &'static str,
) -> Result<Option<Vec<i64>>, OpError> {
    match ctx.input(idx) {
        Some(tensor) => integers(tensor, idx).map(Some),
        None => Ok(ctx.node.ints(name).map(<[i64]>::to_vec)),
    }
}

/// What is known of an optional list of integers.
#[derive(Debug)]
pub(super) enum KnownList {
    /// Neither input nor attribute.
    Absent,
    /// Present, not known before the run.
    Unknown,
    /// Known, as far as its elements are.
    Known(Vec<SymDim>),
}

impl KnownList {
    /// As [`integer_list`], before the run.
    pub(super) fn new(ctx: &InferContext<'_>, idx: usize, name: &str) -> Self {
        match (ctx.input(idx), ctx.node.ints(name)) {
            (Some(fact), _) => fact.elements.clone().map_or(Self::Unknown, Self::Known),
            (None, Some(list)) => Self::Known(list.iter().map(|&v| SymDim::known(v)).collect()),
            (None, None) => Self::Absent,
        }
    }

    /// The numbers, if every one is known.
    pub(super) fn numbers(&self) -> Option<Vec<i64>> {
        match self {
            Self::Known(list) => list.iter().map(SymDim::as_known).collect(),
            _ => None,
        }
    }
}

/// Non-negative axes, in the order given. Each may occur once.
pub(super) fn resolve_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, OpError> {
    let mut resolved = Vec::with_capacity(axes.len());
    for &axis in axes {
        let axis = resolve_axis(axis, rank)?;
        if resolved.contains(&axis) {
            return Err(OpError::attribute(
                "axes",
                format!("axis {axis} occurs twice, expected each axis once"),
            ));
        }
        resolved.push(axis);
    }
    Ok(resolved)
}

/// A size, from a number that must not be negative.
pub(super) fn size(value: i64, idx: usize) -> Result<usize, OpError> {
    usize::try_from(value)
        .map_err(|_| OpError::input(idx, format!("negative size, expected at least 0, got {value}")))
}

/// An index into an axis of `size` elements, counted from the end when it is negative.
pub(super) fn resolve_index(index: i64, size: usize, idx: usize) -> Result<usize, OpError> {
    let resolved = if index < 0 {
        index.saturating_add(size as i64)
    } else {
        index
    };
    usize::try_from(resolved)
        .ok()
        .filter(|&i| i < size)
        .ok_or_else(|| {
            OpError::input(
                idx,
                format!("index outside the axis, expected [-{size}, {size}), got {index}"),
            )
        })
}

/// An index that a tensor of one integer holds.
pub(super) fn position(tensor: &Tensor, idx: usize, len: usize) -> Result<usize, OpError> {
    let index = integers(tensor, idx)?.first().copied();
    let index = index.ok_or_else(|| OpError::input(idx, "is empty, expected one integer"))?;
    resolve_index(index, len, idx)
}

/// A condition: a tensor of one bool.
pub(super) fn condition(tensor: &Tensor, idx: usize) -> Result<bool, OpError> {
    match tensor.as_slice::<bool>() {
        Some(&[value]) => Ok(value),
        _ => Err(OpError::input(
            idx,
            format!(
                "is no condition, expected one bool, got {} {:?}",
                tensor.dtype(),
                tensor.shape()
            ),
        )),
    }
}

/// A tensor that must have a certain rank.
pub(super) fn require_rank(tensor: &Tensor, idx: usize, rank: usize) -> Result<(), OpError> {
    if tensor.rank() == rank {
        return Ok(());
    }
    Err(OpError::input(
        idx,
        format!("wrong rank, expected {rank}, got shape {:?}", tensor.shape()),
    ))
}

/// A dimension that is not known before the run; named after the output, so that equal names are equal sizes.
pub(super) fn open_dim(ctx: &InferContext<'_>, output_idx: usize, axis: usize) -> SymDim {
    let output = ctx.node.output(output_idx).unwrap_or_else(|| ctx.node.label());
    SymDim::symbol(&format!("{output}[{axis}]"))
}

/// The fact of a tensor of rank 0 or 1 whose elements are known.
pub(super) fn elements_fact(dtype: Option<DType>, shape: Vec<SymDim>, elements: Vec<SymDim>) -> Fact {
    let kept = elements.len() <= 64 && shape.len() <= 1;
    Fact {
        elements: kept.then_some(elements),
        ..Fact::new(dtype, Some(shape))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_and_axes_outside_are_refused() {
        assert_eq!(resolve_index(-1, 3, 1), Ok(2));
        assert_eq!(
            resolve_index(3, 3, 1).unwrap_err().to_string(),
            "input 1: index outside the axis, expected [-3, 3), got 3"
        );
        assert_eq!(resolve_axes(&[-1, 0], 3), Ok(vec![2, 0]));
        assert_eq!(
            resolve_axes(&[-1, 2], 3).unwrap_err().to_string(),
            "attribute \"axes\": axis 2 occurs twice, expected each axis once"
        );
    }
}
