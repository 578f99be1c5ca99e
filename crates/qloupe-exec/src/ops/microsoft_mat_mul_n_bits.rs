//! com.microsoft.MatMulNBits: the product with a matrix of 2, 4 or 8-bit integers, quantized in blocks.

use qloupe_ir::Node;
use qloupe_kernels::GemmF32;
use qloupe_tensor::{DType, Tensor};

use super::cast::cast;
use super::composed::MICROSOFT;
use super::elementwise::{widened, wrong_dtype};
use super::float_tensor::to_float32;
use super::matrix_product::MatrixProduct;
use super::parameters::integers;
use crate::{EvalContext, Fact, InferContext, OpError, Operator, PrepareContext, Prepared, SymDim};

const WEIGHT: usize = 1;
const SCALES: usize = 2;
const ZERO_POINTS: usize = 3;
const BLOCKS: usize = 4;
const BIAS: usize = 5;

/// `y = a * w^T + bias` with `w[n, k] = (q[n, k] - zero_point) * scale`, one scale and zero point for each block of
/// `block_size` neighbours along k.
///
/// Integers are packed, the first one in the lowest bits. Zero points are packed likewise or are of the type of a; absent
/// ones are 2^(bits - 1). `g_idx` names the block of each k. The weight is never quantized further: `accuracy_level` is
/// what a runtime may do, not what the model means.
#[derive(Debug)]
pub(super) struct MatMulNBits;

impl Operator for MatMulNBits {
    fn op_type(&self) -> &'static str {
        "MatMulNBits"
    }

    fn domain(&self) -> &'static str {
        MICROSOFT
    }

    fn infer(&self, ctx: &InferContext<'_>) -> Result<Vec<Fact>, OpError> {
        let a = ctx.require(0)?;
        let n = ctx.node.int("N").filter(|&n| n >= 0);
        let shape = a.shape.clone().zip(n).map(|(mut dims, n)| {
            if let Some(last) = dims.last_mut() {
                *last = SymDim::known(n);
            }
            dims
        });
        Ok(vec![Fact::new(a.dtype, shape)])
    }

    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let input = |idx| ctx.input(idx);
        Weight::new(ctx.node, &input)?.packed(input(BIAS))?.eval(ctx)
    }

    fn prepare(&self, ctx: &PrepareContext<'_>) -> Result<Option<Box<dyn Prepared>>, OpError> {
        let constant = |idx: usize| ctx.constants.get(idx).and_then(Option::as_ref);
        let all = (WEIGHT..=BIAS).all(|idx| ctx.node.input(idx).is_none() || constant(idx).is_some());
        if !all {
            return Ok(None);
        }
        Ok(Some(Box::new(
            Weight::new(ctx.node, &constant)?.packed(constant(BIAS))?,
        )))
    }
}

/// The dequantized matrix, `[k, n]`.
struct Weight {
    k: usize,
    n: usize,
    values: Vec<f32>,
}

impl Weight {
    fn new<'a>(node: &Node, input: &dyn Fn(usize) -> Option<&'a Tensor>) -> Result<Self, OpError> {
        let require = |idx| input(idx).ok_or(OpError::MissingInput { idx });
        let form = Form::new(node)?;
        let packed = require(WEIGHT)?;
        let Some(q) = packed.as_slice::<u8>() else {
            return Err(wrong_dtype(WEIGHT, DType::UInt8, packed.dtype()));
        };
        expect_len(WEIGHT, q.len(), form.n.checked_mul(form.bytes_per_row()))?;
        let scales = to_float32(require(SCALES)?, SCALES)?;
        let n_blocks = form.n.checked_mul(form.blocks_per_row());
        expect_len(SCALES, scales.len(), n_blocks)?;
        let zero_points = form.zero_points(input(ZERO_POINTS), scales.len())?;
        let block_of = form.block_of(input(BLOCKS))?;
        let mut values = vec![0.0; form.n * form.k];
        for column in 0..form.n {
            let row = &q[column * form.bytes_per_row()..][..form.bytes_per_row()];
            for (k, &block) in block_of.iter().enumerate() {
                let block = column * form.blocks_per_row() + block;
                let integer = f32::from(unpacked(row, k, form.bits));
                values[k * form.n + column] = (integer - zero_points[block]) * scales[block];
            }
        }
        Ok(Self {
            k: form.k,
            n: form.n,
            values,
        })
    }

    fn packed(self, bias: Option<&Tensor>) -> Result<PreparedNBits, OpError> {
        let bias = match bias {
            Some(bias) => {
                let values = to_float32(bias, BIAS)?;
                expect_len(BIAS, values.len(), Some(self.n))?;
                Some(values)
            }
            None => None,
        };
        Ok(PreparedNBits {
            gemm: GemmF32::new(&self.values, self.k, self.n, bias.as_deref()),
            shape: [self.k, self.n],
        })
    }
}

/// How the weight is packed.
struct Form {
    k: usize,
    n: usize,
    bits: usize,
    block_size: usize,
}

impl Form {
    fn new(node: &Node) -> Result<Self, OpError> {
        let require = |name: &'static str| {
            let value = node.int(name);
            value
                .and_then(|v| usize::try_from(v).ok())
                .filter(|&v| v > 0)
                .ok_or_else(|| OpError::attribute(name, format!("expected a positive number, got {value:?}")))
        };
        let bits = node.int("bits").unwrap_or(4);
        if !matches!(bits, 2 | 4 | 8) {
            return Err(OpError::unsupported(format!("MatMulNBits of {bits} bits")));
        }
        if node.int("weight_prepacked").unwrap_or(0) != 0 {
            return Err(OpError::unsupported("a weight that is packed for one device"));
        }
        let block_size = require("block_size")?;
        if !block_size.is_power_of_two() || block_size < 16 {
            return Err(OpError::attribute(
                "block_size",
                format!("expected a power of two from 16 on, got {block_size}"),
            ));
        }
        Ok(Self {
            k: require("K")?,
            n: require("N")?,
            bits: bits as usize,
            block_size,
        })
    }

    fn blocks_per_row(&self) -> usize {
        self.k.div_ceil(self.block_size)
    }

    fn bytes_per_row(&self) -> usize {
        self.blocks_per_row()
            .saturating_mul(self.block_size / 8 * self.bits)
    }

    /// The zero point of every block of every row.
    fn zero_points(&self, given: Option<&Tensor>, n_blocks: usize) -> Result<Vec<f32>, OpError> {
        let Some(given) = given else {
            return Ok(vec![(1_u32 << (self.bits - 1)) as f32; n_blocks]);
        };
        let Some(packed) = given.as_slice::<u8>() else {
            let values = to_float32(given, ZERO_POINTS)?.into_owned();
            expect_len(ZERO_POINTS, values.len(), Some(n_blocks))?;
            return Ok(values);
        };
        let per_row = (self.blocks_per_row() * self.bits).div_ceil(8);
        expect_len(ZERO_POINTS, packed.len(), self.n.checked_mul(per_row))?;
        let rows = packed.chunks(per_row);
        let blocks =
            |row| (0..self.blocks_per_row()).map(move |block| f32::from(unpacked(row, block, self.bits)));
        Ok(rows.flat_map(blocks).collect())
    }

    /// The block of every k.
    fn block_of(&self, given: Option<&Tensor>) -> Result<Vec<usize>, OpError> {
        let Some(given) = given else {
            return Ok((0..self.k).map(|k| k / self.block_size).collect());
        };
        let blocks = integers(given, BLOCKS)?;
        if blocks.len() < self.k {
            expect_len(BLOCKS, blocks.len(), Some(self.k))?;
        }
        let inside = |&block: &i64| usize::try_from(block).ok().filter(|&b| b < self.blocks_per_row());
        let resolve = |block| {
            inside(block).ok_or_else(|| {
                let n = self.blocks_per_row();
                OpError::input(
                    BLOCKS,
                    format!("block outside the row, expected 0 to {n} (exclusive), got {block}"),
                )
            })
        };
        blocks[..self.k].iter().map(resolve).collect()
    }
}

/// Element `i` of packed integers.
fn unpacked(bytes: &[u8], i: usize, bits: usize) -> u8 {
    let per_byte = 8 / bits;
    let shifted = bytes[i / per_byte] >> (i % per_byte * bits);
    shifted & (u8::MAX >> (8 - bits))
}

fn expect_len(idx: usize, got: usize, expected: Option<usize>) -> Result<(), OpError> {
    if expected == Some(got) {
        return Ok(());
    }
    let expected = expected.map_or_else(|| "fewer than memory holds".to_owned(), |n| n.to_string());
    Err(OpError::input(
        idx,
        format!("wrong number of elements, expected {expected}, got {got}"),
    ))
}

/// A product with the dequantized matrix, packed.
#[derive(Debug)]
struct PreparedNBits {
    gemm: GemmF32,
    shape: [usize; 2],
}

impl Prepared for PreparedNBits {
    fn eval(&self, ctx: &EvalContext<'_>) -> Result<Vec<Tensor>, OpError> {
        let dtype = ctx.require(0)?.dtype();
        let a = widened(ctx, 0, dtype)?;
        let Some(values) = a.as_slice::<f32>() else {
            return Err(wrong_dtype(0, "float32, float16 or bfloat16", dtype));
        };
        let product = MatrixProduct::new(a.shape(), &self.shape, WEIGHT)?;
        let rows = product.offsets.len() * product.m;
        let mut y = vec![0.0; rows * product.n];
        self.gemm.run(values, rows, &mut y);
        Ok(vec![cast(&Tensor::new(&product.output, y)?, dtype)?])
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;
    use crate::Layout;

    /// A row of 17 columns, the first quantized to 11, the one of the second block to 5; all others are 8, which is 0.
    fn weight() -> Tensor {
        let mut bytes = vec![0x88_u8; 16];
        (bytes[0], bytes[8]) = (0x8b, 0x85);
        Tensor::new(&[1, 2, 8], bytes).unwrap()
    }

    fn node_of(columns: i64, bits: i64, block_size: i64) -> Node {
        let sizes = [
            ("K", 17),
            ("N", columns),
            ("bits", bits),
            ("block_size", block_size),
        ];
        sizes.into_iter().fold(Node::default(), |node, (name, v)| {
            node.with_attribute(name, AttributeValue::Int(v))
        })
    }

    fn node() -> Node {
        node_of(1, 4, 16)
    }

    fn run(node: &Node, inputs: &[Option<&Tensor>]) -> Result<Vec<Tensor>, OpError> {
        MatMulNBits.eval(&EvalContext {
            node,
            opset: 1,
            layout: Layout::Plain,
            inputs,
        })
    }

    #[test]
    fn blocks_have_their_own_scale_and_zero_point() {
        let a = Tensor::new(&[1, 17], vec![1_f32; 17]).unwrap();
        let scales = Tensor::new(&[1, 2], vec![2_f32, 10.0]).unwrap();
        let bias = Tensor::vector(vec![0.5_f32]);
        // Zero points 8 and 7: 3 * 2, -2 * 10, and in the second block nothing else.
        let packed = Tensor::new(&[1, 1], vec![0x78_u8]).unwrap();
        let floats = Tensor::new(&[1, 2], vec![8_f32, 7.0]).unwrap();
        let swapped = Tensor::vector((0..17).map(|k| i32::from(k != 16)).collect::<Vec<_>>());
        let sum = |zero_points: Option<&Tensor>, blocks: Option<&Tensor>| {
            let inputs = [
                Some(&a),
                Some(&weight()),
                Some(&scales),
                zero_points,
                blocks,
                Some(&bias),
            ];
            run(&node(), &inputs).unwrap()[0]
                .as_slice::<f32>()
                .unwrap()
                .to_vec()
        };
        assert_eq!(sum(None, None), [6.0 - 30.0 + 0.5]);
        assert_eq!(sum(Some(&packed), None), [6.0 - 20.0 + 0.5]);
        assert_eq!(sum(Some(&floats), None), [6.0 - 20.0 + 0.5]);
        assert_eq!(sum(None, Some(&swapped)), [30.0 - 6.0 + 0.5]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let a = Tensor::new(&[1, 17], vec![1_f32; 17]).unwrap();
        let scales = Tensor::new(&[1, 2], vec![2_f32, 10.0]).unwrap();
        let far = Tensor::vector(vec![2_i32; 17]);
        struct Case<'a> {
            node: Node,
            inputs: [Option<&'a Tensor>; 5],
            text: &'static str,
        }
        let weight = weight();
        let fine = [Some(&a), Some(&weight), Some(&scales), None, None];
        let with = |idx: usize, tensor| {
            let mut inputs = fine;
            inputs[idx] = Some(tensor);
            inputs
        };
        let cases = [
            Case {
                node: node_of(1, 3, 16),
                inputs: fine,
                text: "MatMulNBits of 3 bits is not supported",
            },
            Case {
                node: node_of(1, 4, 24),
                inputs: fine,
                text: "attribute \"block_size\": expected a power of two from 16 on, got 24",
            },
            Case {
                node: node_of(i64::MAX, 4, 16),
                inputs: fine,
                text: "input 1: wrong number of elements, expected fewer than memory holds, got 16",
            },
            Case {
                node: node(),
                inputs: with(2, &a),
                text: "input 2: wrong number of elements, expected 2, got 17",
            },
            Case {
                node: node(),
                inputs: with(4, &far),
                text: "input 4: block outside the row, expected 0 to 2 (exclusive), got 2",
            },
            Case {
                node: node(),
                inputs: with(0, &scales),
                text: "input 1: wrong number of rows, expected 2 for [1, 2], got 17 in [17, 1]",
            },
        ];
        for Case { node, inputs, text } in cases {
            assert_eq!(run(&node, &inputs).unwrap_err().to_string(), text);
        }
    }
}
