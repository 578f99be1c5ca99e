//! Einsum: sums of products by an equation of axis letters.

use std::collections::BTreeMap;

use qloupe_tensor::{Tensor, n_elements};

use super::cast::cast;
use super::elementwise::{NUMBERS, widened, wrong_dtype};
use super::number::{Exact, Number, each_number};
use super::rows::for_each_row;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, SymDim};

/// `y[output axes] = sum over the other axes of x0[..] * x1[..] * ..`, by an equation such as `bij,bjk->bik`.
///
/// An axis that an operand names twice is its diagonal; `...` stands for any axes, broadcast; without `->` the output has
/// the letters that occur once, in alphabetical order.
///
/// # Numerics
/// Every output element is one in-order chain over the summed axes, in the order in which the equation first names
/// them: in f64 for floats, rounded once. Two operands with one summed axis each are better written as MatMul, which is
/// much faster.
#[derive(Debug)]
pub(super) struct Einsum;

impl Operator for Einsum {
    fn op_type(&self) -> &'static str {
        "Einsum"
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let dtype = (0..ctx.inputs.len()).find_map(|idx| ctx.dtype(idx));
        let shapes: Option<Vec<&[SymDim]>> = (0..ctx.inputs.len()).map(|idx| ctx.shape(idx)).collect();
        let Some(shapes) = shapes else {
            return Ok(vec![Fact::new(dtype, None)]);
        };
        let ranks: Vec<usize> = shapes.iter().map(|shape| shape.len()).collect();
        let equation = Equation::parse(ctx.node.string("equation").unwrap_or(""), &ranks)?;
        let mut sizes: BTreeMap<Axis, SymDim> = BTreeMap::new();
        for (axes, shape) in equation.operands.iter().zip(&shapes) {
            for (&axis, size) in axes.iter().zip(*shape) {
                let known = sizes.entry(axis).or_insert_with(|| size.clone());
                if known.as_known() == Some(1) || known.as_known().is_none() {
                    *known = size.clone();
                }
            }
        }
        let dims = equation
            .output
            .iter()
            .map(|axis| sizes.get(axis).cloned().unwrap_or_default());
        Ok(vec![Fact::new(dtype, Some(dims.collect()))])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        let operands: Vec<Tensor> = (0..ctx.inputs.len())
            .map(|idx| widened(ctx, idx, dtype))
            .collect::<Result<_, _>>()?;
        let ranks: Vec<usize> = operands.iter().map(Tensor::rank).collect();
        let equation = Equation::parse(ctx.string("equation", ""), &ranks)?;
        let y = each_number!(operands[0].dtype(), T => {
            if dtype.is_float() {
                equation.evaluate::<T, f64>(&operands)?
            } else {
                equation.evaluate::<T, T>(&operands)?
            }
        }, else return Err(wrong_dtype(0, NUMBERS, dtype)));
        Ok(vec![cast(&y, dtype)?])
    }
}

/// A letter, or an axis of `...` counted from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Axis {
    Ellipsis(usize),
    Letter(char),
}

/// The axes of operands and output.
#[derive(Debug)]
struct Equation {
    operands: Vec<Vec<Axis>>,
    output: Vec<Axis>,
}

fn wrong(what: impl Into<String>) -> OpError {
    OpError::attribute("equation", what)
}

impl Equation {
    fn parse(text: &str, ranks: &[usize]) -> Result<Self, OpError> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (text.as_str(), None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            return Err(wrong(format!(
                "expected {} operands, got {}",
                ranks.len(),
                terms.len()
            )));
        }
        let mut n_ellipsis = 0;
        let mut operands = Vec::new();
        for (term, &rank) in terms.iter().zip(ranks) {
            let letters = term.replace("...", "").chars().count();
            let open = rank
                .checked_sub(letters)
                .filter(|&n| n == 0 || term.contains("..."));
            let open =
                open.ok_or_else(|| wrong(format!("\"{term}\" does not fit an operand of rank {rank}")))?;
            n_ellipsis = n_ellipsis.max(open);
            operands.push(axes_of(term, open)?);
        }
        let output = match right {
            Some(term) => axes_of(term, n_ellipsis)?,
            None => {
                let all: Vec<Axis> = operands.iter().flatten().copied().collect();
                let mut once: Vec<Axis> = (0..n_ellipsis).rev().map(Axis::Ellipsis).collect();
                let mut letters: Vec<Axis> = all
                    .iter()
                    .copied()
                    .filter(|axis| matches!(axis, Axis::Letter(_)))
                    .filter(|axis| all.iter().filter(|other| *other == axis).count() == 1)
                    .collect();
                letters.sort();
                once.extend(letters);
                once
            }
        };
        for (i, axis) in output.iter().enumerate() {
            if output[..i].contains(axis) || !operands.iter().flatten().any(|other| other == axis) {
                return Err(wrong(format!(
                    "output axis {i} is repeated or not an axis of an operand in \"{text}\""
                )));
            }
        }
        Ok(Self { operands, output })
    }

    fn evaluate<T: Number, A: Number>(&self, tensors: &[Tensor]) -> Result<Tensor, OpError> {
        let mut sizes: BTreeMap<Axis, usize> = BTreeMap::new();
        let mut order: Vec<Axis> = Vec::new();
        for (idx, (axes, tensor)) in self.operands.iter().zip(tensors).enumerate() {
            for (&axis, &size) in axes.iter().zip(tensor.shape()) {
                let known = *sizes.entry(axis).or_insert(size);
                if known != size && known != 1 && size != 1 {
                    return Err(OpError::input(
                        idx,
                        format!("sizes of an axis differ, expected {known}, got {size}"),
                    ));
                }
                if known == 1 {
                    sizes.insert(axis, size);
                }
                if !order.contains(&axis) {
                    order.push(axis);
                }
            }
        }
        let summed: Vec<Axis> = order
            .into_iter()
            .filter(|axis| !self.output.contains(axis))
            .collect();
        let of = |axes: &[Axis]| axes.iter().map(|axis| sizes[axis]).collect::<Vec<usize>>();
        let (shape, inner) = (of(&self.output), of(&summed));
        let too_large = || wrong("the result has more elements than memory can hold");
        let n_out = n_elements(&shape).ok_or_else(too_large)?;
        let n_inner = n_elements(&inner).ok_or_else(too_large)?;
        let outer_offsets = self.offsets(tensors, &self.output, &shape, n_out);
        let inner_offsets = self.offsets(tensors, &summed, &inner, n_inner);
        let slices: Vec<&[T]> = tensors.iter().map(Tensor::require).collect::<Result<_, _>>()?;
        let one = A::narrow(Exact::Signed(1));
        let mut out = vec![A::ZERO; n_out];
        for_each_row(&mut out, 64, n_out.saturating_mul(n_inner), &|block, out| {
            for (i, out) in out.iter_mut().enumerate() {
                let start = block * 64 + i;
                let product = |step: usize| {
                    slices.iter().enumerate().fold(one, |product: A, (operand, x)| {
                        let at = outer_offsets[operand][start] + inner_offsets[operand][step];
                        product.times(A::narrow(x[at].widen()))
                    })
                };
                *out = (0..n_inner).fold(*out, |sum: A, step| sum.plus(product(step)));
            }
        });
        Ok(Tensor::new(&shape, out)?)
    }

    /// For each operand, the offset of every index of the axes.
    fn offsets(&self, tensors: &[Tensor], axes: &[Axis], shape: &[usize], n: usize) -> Vec<Vec<usize>> {
        let of_operand = |(own, tensor): (&Vec<Axis>, &Tensor)| {
            let mut strides = vec![0; axes.len()];
            let mut stride = 1;
            for (axis, &size) in own.iter().zip(tensor.shape()).rev() {
                if let Some(at) = axes.iter().position(|other| other == axis)
                    && size != 1
                {
                    strides[at] += stride;
                }
                stride *= size;
            }
            let offset = |mut idx: usize| {
                let mut at = 0;
                for (&size, stride) in shape.iter().zip(&strides).rev() {
                    at += idx % size * stride;
                    idx /= size;
                }
                at
            };
            (0..n).map(offset).collect()
        };
        self.operands.iter().zip(tensors).map(of_operand).collect()
    }
}

fn axes_of(term: &str, n_ellipsis: usize) -> Result<Vec<Axis>, OpError> {
    let letters = |text: &str| {
        text.chars()
            .map(|c| {
                c.is_ascii_alphabetic()
                    .then_some(Axis::Letter(c))
                    .ok_or_else(|| wrong(format!("expected letters, commas, \"...\" and \"->\", got '{c}'")))
            })
            .collect::<Result<Vec<_>, _>>()
    };
    let Some((before, after)) = term.split_once("...") else {
        return letters(term);
    };
    let mut axes = letters(before)?;
    axes.extend((0..n_ellipsis).rev().map(Axis::Ellipsis));
    axes.extend(letters(after)?);
    Ok(axes)
}

#[cfg(test)]
mod tests {
    use qloupe_ir::{AttributeValue, Node};

    use super::*;
    use crate::Layout;

    fn run(equation: &str, inputs: &[&Tensor]) -> Result<Tensor, OpError> {
        let node = Node::default().with_attribute("equation", AttributeValue::String(equation.into()));
        let inputs: Vec<Option<&Tensor>> = inputs.iter().map(|&x| Some(x)).collect();
        let ctx = EvalContext {
            node: &node,
            opset: 12,
            layout: Layout::Plain,
            inputs: &inputs,
        };
        Ok(Einsum.eval(&ctx)?.remove(0))
    }

    #[test]
    fn equations() {
        let x = Tensor::new(&[2, 2], vec![1_i64, 2, 3, 4]).unwrap();
        let row = Tensor::vector(vec![1_i64, 10]);
        let square = |v: [i64; 4]| Tensor::new(&[2, 2], v.to_vec()).unwrap();
        let cases: [(&str, &[&Tensor], Tensor); 7] = [
            ("ij->ji", &[&x], square([1, 3, 2, 4])),
            ("ij,jk->ik", &[&x, &x], square([7, 10, 15, 22])),
            ("ij,jk", &[&x, &x], square([7, 10, 15, 22])),
            ("ii->i", &[&x], Tensor::vector(vec![1_i64, 4])),
            ("ij->", &[&x], Tensor::scalar(10_i64)),
            ("...j, j -> ...", &[&x, &row], Tensor::vector(vec![21_i64, 43])),
            ("i,j->ij", &[&row, &row], square([1, 10, 10, 100])),
        ];
        for (equation, inputs, expected) in cases {
            assert_eq!(run(equation, inputs).unwrap(), expected, "{equation}");
        }
    }

    #[test]
    fn bad_equations_are_named() {
        let x = Tensor::new(&[2, 3], vec![0_i64; 6]).unwrap();
        let cases: [(&str, &[&Tensor], &str); 5] = [
            (
                "ij,jk->ik",
                &[&x],
                "attribute \"equation\": expected 1 operands, got 2",
            ),
            (
                "ijk->i",
                &[&x],
                "attribute \"equation\": \"ijk\" does not fit an operand of rank 2",
            ),
            (
                "i%->i",
                &[&x],
                "attribute \"equation\": expected letters, commas, \"...\" and \"->\", got '%'",
            ),
            (
                "ij->k",
                &[&x],
                "attribute \"equation\": output axis 0 is repeated or not an axis of an operand in \"ij->k\"",
            ),
            (
                "ij,jk->ik",
                &[&x, &x],
                "input 1: sizes of an axis differ, expected 3, got 2",
            ),
        ];
        for (equation, inputs, expected) in cases {
            assert_eq!(run(equation, inputs).unwrap_err().to_string(), expected);
        }
    }
}
