//! AffineGrid: the coordinates that an affine map gives to the pixels of an image or volume.

use qloupe_tensor::Tensor;

use super::movement::{count, reserved};
use super::normalization::{floats, rounded};
use super::parameters::{integers, size};
use super::scatter::advance;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `grid[n, .., :] = theta[n] * [x, y, (z,) 1]`, where the coordinates of the image go from -1 to 1: from the centres of
/// its corner pixels if `align_corners`, else from their outer edges.
///
/// # Shapes
/// theta: `[N, 2, 3]` or `[N, 3, 4]`; size: `[N, C, H, W]` or `[N, C, D, H, W]`; grid: `[N, H, W, 2]` or `[N, D, H, W, 3]`.
/// # Numerics
/// In f64, rounded once.
#[derive(Debug)]
pub(super) struct AffineGrid;

impl Operator for AffineGrid {
    fn op_type(&self) -> &'static str {
        "AffineGrid"
    }

    fn since_version(&self) -> i64 {
        20
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let theta = ctx.require(0)?;
        let shape = ctx.elements(1).and_then(|dims| {
            let (n, spatial) = (dims.first()?, dims.get(2..)?);
            Some([std::slice::from_ref(n), spatial, &[SymDim::from(spatial.len())]].concat())
        });
        Ok(vec![Fact::new(theta.dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let theta = ctx.require(0)?;
        let sizes: Vec<usize> = integers(ctx.require(1)?, 1)?
            .into_iter()
            .map(|d| size(d, 1))
            .collect::<Result<_, _>>()?;
        let spatial = match sizes[..] {
            [_, _, ref spatial @ ..] if (2..=3).contains(&spatial.len()) => spatial,
            _ => {
                return Err(OpError::input(
                    1,
                    format!("wrong size, expected [N, C, H, W] or [N, C, D, H, W], got {sizes:?}"),
                ));
            }
        };
        let (n, axes) = (sizes[0], spatial.len());
        if theta.shape() != [n, axes, axes + 1] {
            return Err(OpError::input(
                0,
                format!(
                    "wrong shape, expected {:?}, got {:?}",
                    [n, axes, axes + 1],
                    theta.shape()
                ),
            ));
        }
        let align_corners = ctx.int("align_corners", 0) == 1;
        let coordinate = |i: usize, size: usize| match (align_corners, size) {
            (true, 1) => -1.0,
            (true, _) => 2.0 * i as f64 / (size as f64 - 1.0) - 1.0,
            (false, _) => (2.0 * i as f64 + 1.0) / size as f64 - 1.0,
        };
        let shape = [&[n], spatial, &[axes]].concat();
        let n_values = count(&shape)?;
        let mut grid = reserved(n_values)?;
        for rows in floats(ctx, 0)?.chunks_exact(axes * (axes + 1)) {
            let mut pixel = vec![0; axes];
            for _ in 0..spatial.iter().product::<usize>() {
                for row in rows.chunks_exact(axes + 1) {
                    let offset = row[axes];
                    let sum = (0..axes).fold(0.0, |sum, axis| {
                        let from_last = axes - 1 - axis;
                        sum + row[axis] * coordinate(pixel[from_last], spatial[from_last])
                    });
                    grid.push(sum + offset);
                }
                advance(&mut pixel, spatial);
            }
        }
        Ok(vec![rounded(&shape, grid, theta.dtype())?])
    }
}
