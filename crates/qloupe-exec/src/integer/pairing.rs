//! Two operands that broadcast, as kernels of pairs take them.

use qloupe_tensor::{Element, Tensor};

use crate::ops::Broadcast;
use crate::stored::broadcast_nhwc;
use crate::{Layout, OpError, Stored};

/// Operands of one length, or a shorter one of which every row of `inner` elements is repeated.
#[derive(Debug)]
pub(super) struct Pairing {
    pub(super) a: Tensor,
    pub(super) b: Tensor,
    pub(super) inner: usize,
    /// The shape of the result, in the order of `layout`.
    pub(super) shape: Vec<usize>,
    pub(super) layout: Layout,
}

impl Pairing {
    /// # Errors
    /// Shapes that do not broadcast; a dtype that has no kernel of pairs.
    pub(super) fn new(a: &Stored, b: &Stored) -> Result<Self, OpError> {
        let nhwc = (a.layout() == Layout::Nhwc || b.layout() == Layout::Nhwc) && a.rank().max(b.rank()) == 4;
        let layout = if nhwc { Layout::Nhwc } else { Layout::Plain };
        let view = |x: &Stored| match (nhwc, x.rank()) {
            (true, 1..=3) => broadcast_nhwc(x.to_plain()),
            _ => x.in_layout(layout).clone(),
        };
        let (a, b) = (view(a), view(b));
        let walk = Broadcast::new([a.shape(), b.shape()])?;
        let shape = walk.shape().to_vec();
        let (a, b, inner) = match repeated_rows(a.shape(), b.shape(), &shape) {
            Some(inner) => (a, b, inner),
            None => (spread(&a, &walk, 0)?, spread(&b, &walk, 1)?, 1),
        };
        Ok(Self {
            a,
            b,
            inner,
            shape,
            layout,
        })
    }
}

/// The length of the rows that the shorter operand repeats: `[outer, 1, inner]` beside `[outer, middle, inner]`, which is
/// the shape of the output. `None` for any other pair.
fn repeated_rows(a: &[usize], b: &[usize], shape: &[usize]) -> Option<usize> {
    let n = |shape: &[usize]| shape.iter().product::<usize>();
    let (long, short) = if n(a) < n(b) { (b, a) } else { (a, b) };
    if n(long) != n(shape) {
        return None;
    }
    // Dimensions of 1 in the output say nothing.
    let missing = shape.len() - short.len();
    let kept: Vec<(usize, bool)> = (0..shape.len())
        .filter(|&axis| shape[axis] != 1)
        .map(|axis| (shape[axis], axis >= missing && short[axis - missing] != 1))
        .collect();
    let Some(end) = kept.iter().rposition(|&(_, kept)| !kept) else {
        return Some(n(shape).max(1));
    };
    let begin = kept.iter().position(|&(_, kept)| !kept).unwrap_or(end);
    kept[begin..=end]
        .iter()
        .all(|&(_, kept)| !kept)
        .then(|| kept[end + 1..].iter().map(|&(size, _)| size).product())
}

/// Operand `idx` of a walk at the shape of its output.
pub(super) fn spread(x: &Tensor, walk: &Broadcast<2>, idx: usize) -> Result<Tensor, OpError> {
    fn copy<T: Copy>(x: &[T], advances: bool, out: &mut [T]) {
        if advances {
            out.copy_from_slice(&x[..out.len()]);
        } else {
            out.fill(x[0]);
        }
    }
    fn filled<T: Element>(x: &[T], walk: &Broadcast<2>, idx: usize) -> Result<Tensor, OpError> {
        let values = walk.fill(|out, at, steps| copy(&x[at[idx]..], steps[idx], out));
        Ok(Tensor::new(walk.shape(), values)?)
    }
    match (x.as_slice::<i8>(), x.as_slice::<f32>()) {
        (Some(x), _) => filled(x, walk, idx),
        (None, Some(x)) => filled(x, walk, idx),
        (None, None) => filled(x.require::<u8>()?, walk, idx),
    }
}
