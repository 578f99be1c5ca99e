//! DFT: the discrete Fourier transform along an axis.

use qloupe_ir::Node;
use qloupe_tensor::Tensor;

use super::fourier::{Complex, Fourier, complex_elements, one_sided};
use super::movement::repeated;
use super::normalization::rounded;
use super::parameters::{one_integer, open_dim, size};
use super::rows::{Around, for_each_row};
use crate::operator::resolve_axis;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// The transform of each row, which is cut or filled with zeros to `dft_length` elements first.
///
/// With `onesided` the forward transform of a real signal gives the first `dft_length / 2 + 1` elements, and the inverse
/// takes as many and gives a real signal.
///
/// # Shapes
/// x: `[.., 1]` (real) or `[.., 2]` (complex), y the same with `[.., 2]`, or `[.., 1]` for a one-sided inverse.
/// # Numerics
/// In f64, rounded once.
#[derive(Debug)]
pub(super) struct Dft;

/// The opset from which on the axis is an input.
const AXIS_INPUT_SINCE: i64 = 20;

/// Multiplications for an element of a row, roughly.
const WORK_PER_ELEMENT: usize = 32;

/// What is transformed to what.
#[derive(Clone, Copy, Debug)]
struct Direction {
    inverse: bool,
    one_sided: bool,
}

impl Direction {
    /// The length of a transform when none is given, for an axis of `size` elements.
    fn default_length(self, size: usize) -> usize {
        if self.inverse && self.one_sided {
            2 * size.saturating_sub(1)
        } else {
            size
        }
    }

    /// The number of elements that come out.
    fn n_outputs(self, length: usize) -> usize {
        if self.one_sided && !self.inverse {
            one_sided(length)
        } else {
            length
        }
    }

    /// 1 for a real output, 2 for a complex one.
    fn n_parts(self) -> usize {
        if self.one_sided && self.inverse { 1 } else { 2 }
    }

    /// The elements of a row that take part, `length` of them.
    fn fill(self, row: &[Complex], filled: &mut [Complex]) {
        let length = filled.len();
        if !(self.inverse && self.one_sided) {
            let n = row.len().min(length);
            filled[..n].copy_from_slice(&row[..n]);
            return;
        }
        // A real signal: element k is the conjugate of element length - k, and elements that are their own are real.
        for (k, &[re, im]) in row.iter().take(one_sided(length)).enumerate() {
            filled[k] = [re, im];
            filled[(length - k) % length] = [re, if k == 0 || 2 * k == length { 0.0 } else { -im }];
        }
    }
}

/// The axis, which must not be the last one.
fn signal_axis(axis: i64, rank: usize) -> Result<usize, OpError> {
    let resolved = resolve_axis(axis, rank)?;
    if resolved + 1 == rank {
        return Err(OpError::attribute(
            "axis",
            format!("the last axis holds real and imaginary parts, expected another one, got {axis}"),
        ));
    }
    Ok(resolved)
}

fn direction(node: &Node) -> Direction {
    Direction {
        inverse: node.int("inverse").unwrap_or(0) != 0,
        one_sided: node.int("onesided").unwrap_or(0) != 0,
    }
}

impl Operator for Dft {
    fn op_type(&self) -> &'static str {
        "DFT"
    }

    fn since_version(&self) -> i64 {
        17
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let direction = direction(ctx.node);
        let axis = match (ctx.opset < AXIS_INPUT_SINCE, ctx.input(2)) {
            (true, _) => Some(ctx.node.int("axis").unwrap_or(1)),
            (false, None) => Some(-2),
            (false, Some(_)) => ctx.known_elements(2).and_then(|e| e.first().copied()),
        };
        let (Some(dims), Some(axis)) = (&x.shape, axis) else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let axis = signal_axis(axis, dims.len())?;
        let length = match ctx.input(1) {
            Some(_) => ctx.elements(1).and_then(|e| e.first()?.as_size()),
            None => dims[axis].as_size().map(|size| direction.default_length(size)),
        };
        let mut dims = dims.clone();
        dims[axis] = length.map_or_else(
            || open_dim(ctx, 0, axis),
            |length| SymDim::from(direction.n_outputs(length)),
        );
        if let Some(parts) = dims.last_mut() {
            *parts = SymDim::from(direction.n_parts());
        }
        Ok(vec![Fact::new(x.dtype, Some(dims))])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let x = ctx.require(0)?;
        let direction = direction(ctx.node);
        let axis = match (ctx.opset < AXIS_INPUT_SINCE, ctx.input(2)) {
            (true, _) => ctx.int("axis", 1),
            (false, None) => -2,
            (false, Some(_)) => one_integer(ctx, 2)?,
        };
        let axis = signal_axis(axis, x.rank())?;
        let values = complex_elements(x, 0)?;
        if direction.one_sided && !direction.inverse && x.shape().last() != Some(&1) {
            return Err(OpError::Unsupported {
                what: "a one-sided transform of a complex signal".to_owned(),
                remedy: ": set onesided to 0, or pass a real signal".to_owned(),
            });
        }
        let length = match ctx.input(1) {
            Some(_) => size(one_integer(ctx, 1)?, 1)?,
            None => direction.default_length(x.shape()[axis]),
        };
        let mut shape = x.shape().to_vec();
        shape[axis] = direction.n_outputs(length);
        let parts = shape.len() - 1;
        shape[parts] = direction.n_parts();
        let around = Around::axes(&x.shape()[..parts], axis, axis + 1);
        let rows = around.gather(&values);
        let fourier = Fourier::new(length, direction.inverse)?;
        let output = Around {
            n: shape[axis],
            ..around
        };
        let mut spectra = repeated([0.0; 2], &[output.outer, output.inner, output.n])?;
        let work = spectra.len().saturating_mul(WORK_PER_ELEMENT);
        for_each_row(&mut spectra, output.n, work, &|i, out| {
            let mut filled = vec![[0.0; 2]; length];
            direction.fill(&rows[i * around.n..][..around.n], &mut filled);
            out.copy_from_slice(&fourier.transform(&filled)[..out.len()]);
        });
        let spectra = output.scatter(&spectra);
        let y: Vec<f64> = match direction.n_parts() {
            1 => spectra.into_iter().map(|[re, _]| re).collect(),
            _ => spectra.into_flattened(),
        };
        Ok(vec![rounded(&shape, y, x.dtype())?])
    }
}
