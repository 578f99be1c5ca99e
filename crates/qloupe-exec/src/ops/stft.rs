//! STFT: the spectra of overlapping frames of a signal.

use qloupe_tensor::Tensor;

use super::fourier::{Fourier, complex_elements, one_sided};
use super::movement::repeated;
use super::normalization::{floats_of_length, rounded};
use super::parameters::{one_integer, open_dim, require_rank, size};
use super::rows::for_each_row;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// The transform of every frame `x[f * frame_step ..][.. frame_length]`, multiplied by the window.
///
/// # Shapes
/// x: `[batch, length, 1]` (real) or `[batch, length, 2]` (complex), and as in ONNX Runtime `[batch, length]` (real); window:
/// `[frame_length]`; y: `[batch, frames, bins, 2]`, where a one-sided spectrum (the default) has `frame_length / 2 + 1` bins.
/// # Numerics
/// In f64, rounded once.
#[derive(Debug)]
pub(super) struct Stft;

/// Multiplications for an element of a frame, roughly.
const WORK_PER_ELEMENT: usize = 32;

impl Operator for Stft {
    fn op_type(&self) -> &'static str {
        "STFT"
    }

    fn since_version(&self) -> i64 {
        17
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let x = ctx.require(0)?;
        let dim = |idx: usize| ctx.elements(idx).and_then(|e| e.first()?.as_size());
        let Some([batch, signal] | [batch, signal, _]) = x.shape.as_deref() else {
            return Ok(vec![Fact::new(x.dtype, None)]);
        };
        let length = match (ctx.input(3), ctx.input(2)) {
            (Some(_), _) => dim(3),
            (None, Some(window)) => window.shape.as_ref().and_then(|s| s.first()?.as_size()),
            (None, None) => signal.as_size(),
        };
        let n_frames = match (signal.as_size(), length, dim(1)) {
            (Some(signal), Some(length), Some(step)) => frames(signal, length, step).ok(),
            _ => None,
        };
        let bins = length.map(|n| if is_one_sided(ctx.node) { one_sided(n) } else { n });
        let open = |axis: usize, n: Option<usize>| n.map_or_else(|| open_dim(ctx, 0, axis), SymDim::from);
        let dims = vec![
            batch.clone(),
            open(1, n_frames),
            open(2, bins),
            SymDim::from(2_usize),
        ];
        Ok(vec![Fact::new(x.dtype, Some(dims))])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let mut x = ctx.require(0)?.clone();
        if let &[batch, n_samples] = x.shape() {
            x = x.reshape(&[batch, n_samples, 1])?;
        }
        require_rank(&x, 0, 3)?;
        let (batch, n_samples, n_parts) = (x.shape()[0], x.shape()[1], x.shape()[2]);
        let signal = complex_elements(&x, 0)?;
        let one_sided_output = is_one_sided(ctx.node);
        if one_sided_output && n_parts != 1 {
            return Err(OpError::Unsupported {
                what: "a one-sided spectrum of a complex signal".to_owned(),
                remedy: ": set onesided to 0, or pass a real signal".to_owned(),
            });
        }
        let step = size(one_integer(ctx, 1)?, 1)?;
        let length = match (ctx.input(3), ctx.input(2)) {
            (Some(_), _) => size(one_integer(ctx, 3)?, 3)?,
            (None, Some(window)) => window.len(),
            (None, None) => n_samples,
        };
        let n_frames = frames(n_samples, length, step)?;
        let window = match ctx.input(2) {
            Some(_) => floats_of_length(ctx, 2, length)?,
            None => vec![1.0; length],
        };
        let fourier = Fourier::new(length, false)?;
        let bins = if one_sided_output {
            one_sided(length)
        } else {
            length
        };
        let mut spectra = repeated([0.0; 2], &[batch, n_frames, bins])?;
        let work = spectra.len().saturating_mul(WORK_PER_ELEMENT);
        for_each_row(&mut spectra, bins, work, &|i, out| {
            let start = i / n_frames * n_samples + i % n_frames * step;
            let frame: Vec<[f64; 2]> = signal[start..][..length]
                .iter()
                .zip(&window)
                .map(|([re, im], weight)| [re * weight, im * weight])
                .collect();
            out.copy_from_slice(&fourier.transform(&frame)[..out.len()]);
        });
        let y = rounded(&[batch, n_frames, bins, 2], spectra.into_flattened(), x.dtype())?;
        Ok(vec![y])
    }
}

fn is_one_sided(node: &qloupe_ir::Node) -> bool {
    node.int("onesided").unwrap_or(1) != 0
}

/// The number of frames.
fn frames(signal: usize, length: usize, step: usize) -> Result<usize, OpError> {
    match signal.checked_sub(length) {
        Some(rest) if step > 0 => Ok(rest / step + 1),
        Some(_) => Err(OpError::input(1, "wrong step, expected at least 1, got 0")),
        None => Err(OpError::input(
            0,
            format!("shorter than a frame, expected at least {length} samples, got {signal}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;

    use super::*;
    use crate::Layout;

    #[test]
    fn a_signal_without_a_last_axis_is_real() {
        let node = Node::new("STFT", "n", &["x", "step", "", "length"], &["y"]);
        let samples: Vec<f32> = (0..20).map(|i| (i * 7 % 11) as f32 - 5.0).collect();
        let (step, length) = (Tensor::scalar(2_i64), Tensor::scalar(4_i64));
        let run = |shape: &[usize]| {
            let x = Tensor::new(shape, samples.clone()).unwrap();
            Stft.eval(&EvalContext {
                node: &node,
                opset: 17,
                layout: Layout::Plain,
                inputs: &[Some(&x), Some(&step), None, Some(&length)],
            })
            .unwrap()
        };
        let y = run(&[2, 10]);
        assert_eq!(y[0].shape(), [2, 4, 3, 2]);
        assert_eq!(y, run(&[2, 10, 1]));
    }

    #[test]
    fn frames_that_do_not_fit_are_refused() {
        assert_eq!(frames(10, 4, 3), Ok(3));
        assert_eq!(
            frames(10, 4, 0).unwrap_err().to_string(),
            "input 1: wrong step, expected at least 1, got 0"
        );
        assert_eq!(
            frames(3, 4, 1).unwrap_err().to_string(),
            "input 0: shorter than a frame, expected at least 4 samples, got 3"
        );
    }
}
