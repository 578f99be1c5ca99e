//! The masks of ONNX Runtime's attention operators: integers that say which keys are padding.

use qloupe_tensor::Tensor;

use super::elementwise::{widened, zip_tensors};
use super::parameters::integers;
use crate::{EvalContext, OpError};

/// How many batches, queries and keys there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) batch: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
}

/// The sum of a padding mask and an additive bias, both optional inputs.
///
/// # Errors
/// A mask of a shape that has no meaning, a bias of another dtype than input 0.
pub(super) fn bias_of(
    ctx: &EvalContext<'_>,
    mask_idx: usize,
    bias_idx: usize,
    extent: Extent,
) -> Result<Option<Tensor>, OpError> {
    let filter = ctx.float("mask_filter_value", -10_000.0);
    let padding = ctx
        .input(mask_idx)
        .map(|mask| padding_bias(mask, mask_idx, filter, extent))
        .transpose()?;
    let dtype = ctx.require(0)?.dtype();
    let bias = ctx
        .input(bias_idx)
        .map(|_| widened(ctx, bias_idx, dtype))
        .transpose()?;
    Ok(match (padding, bias) {
        (Some(padding), Some(bias)) => Some(zip_tensors::<f32, f32>(&bias, &padding, |a, b| a + b)?),
        (padding, bias) => padding.or(bias),
    })
}

/// `filter` where a key is padding, else 0, as `[batch, 1, queries or 1, keys]`.
///
/// The mask is one number for each key (of each query), 0 for padding; or for each batch the end of its keys, followed
/// or not by their starts.
///
/// # Errors
/// Another shape, another dtype.
fn padding_bias(mask: &Tensor, idx: usize, filter: f32, extent: Extent) -> Result<Tensor, OpError> {
    let Extent { batch, queries, keys } = extent;
    let values = integers(mask, idx)?;
    let pads = |is_padding| if is_padding { filter } else { 0.0 };
    let shape = mask.shape();
    let each = || values.iter().map(|&v| pads(v <= 0)).collect::<Vec<f32>>();
    if shape == [batch, queries, keys] {
        return Ok(Tensor::new(&[batch, 1, queries, keys], each())?);
    }
    if shape == [batch, keys] {
        return Ok(Tensor::new(&[batch, 1, 1, keys], each())?);
    }
    if mask.rank() == 1 && [batch, 2 * batch].contains(&values.len()) {
        let (ends, starts) = values.split_at(batch);
        let bias = (0..batch).flat_map(|b| {
            let range = starts.get(b).copied().unwrap_or(0)..ends[b];
            (0..keys).map(move |key| pads(!range.contains(&(key as i64))))
        });
        return Ok(Tensor::new(&[batch, 1, 1, keys], bias.collect())?);
    }
    Err(OpError::input(
        idx,
        format!(
            "mask does not fit, expected shape [{batch}], [{}], [{batch}, {keys}] or [{batch}, {queries}, {keys}], got \
             {shape:?}",
            2 * batch
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_mask() {
        let extent = Extent {
            batch: 1,
            queries: 2,
            keys: 3,
        };
        let bias = |shape: &[usize], values: &[i32]| {
            padding_bias(&Tensor::new(shape, values.to_vec()).unwrap(), 4, -9.0, extent)
        };
        struct Case {
            shape: &'static [usize],
            values: &'static [i32],
            bias: &'static [f32],
        }
        let cases = [
            Case {
                shape: &[1, 3],
                values: &[1, 0, 2],
                bias: &[0.0, -9.0, 0.0],
            },
            Case {
                shape: &[1, 2, 3],
                values: &[1, 0, 1, 0, 1, 1],
                bias: &[0.0, -9.0, 0.0, -9.0, 0.0, 0.0],
            },
            Case {
                shape: &[1],
                values: &[2],
                bias: &[0.0, 0.0, -9.0],
            },
            Case {
                shape: &[2],
                values: &[2, 1],
                bias: &[-9.0, 0.0, -9.0],
            },
        ];
        for Case {
            shape,
            values,
            bias: expected,
        } in cases
        {
            assert_eq!(
                bias(shape, values).unwrap().as_slice::<f32>().unwrap(),
                expected,
                "{shape:?}"
            );
        }
        assert_eq!(
            bias(&[5], &[0; 5]).unwrap_err().to_string(),
            "input 4: mask does not fit, expected shape [1], [2], [1, 3] or [1, 2, 3], got [5]"
        );
    }
}
