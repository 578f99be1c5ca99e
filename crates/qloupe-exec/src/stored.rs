//! Values inside the executor: a tensor with the physical order it is stored in.

use std::sync::{Arc, OnceLock};

use qloupe_tensor::{DType, Data, Element, Tensor};

use crate::Layout;
use crate::ops::View;

/// A value of a run. Rank-4 tensors may be stored `[N, H, W, C]`; outside the executor they are always in ONNX order.
#[derive(Clone, Debug)]
pub struct Stored {
    primary: Tensor,
    layout: Layout,
    /// In the other order, once somebody asked for it.
    other: OnceLock<Arc<Tensor>>,
}

impl Stored {
    /// A tensor in ONNX order.
    pub fn plain(tensor: Tensor) -> Self {
        Self {
            primary: tensor,
            layout: Layout::Plain,
            other: OnceLock::new(),
        }
    }

    /// The output of a call in `layout`: only rank-4 tensors can be NHWC.
    pub fn of_call(tensor: Tensor, layout: Layout) -> Self {
        let layout = if tensor.rank() == 4 { layout } else { Layout::Plain };
        Self {
            primary: tensor,
            layout,
            other: OnceLock::new(),
        }
    }

    /// The order it is stored in.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The tensor as it is stored.
    pub fn physical(&self) -> &Tensor {
        &self.primary
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.primary.dtype()
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.primary.rank()
    }

    /// The number of bytes of the elements.
    pub fn size_bytes(&self) -> usize {
        self.primary.size_bytes()
    }

    /// The shape in ONNX order.
    pub fn shape(&self) -> Vec<usize> {
        match (self.layout, self.primary.shape()) {
            (Layout::Nhwc, &[n, h, w, c]) => vec![n, c, h, w],
            (_, shape) => shape.to_vec(),
        }
    }

    /// The tensor in ONNX order.
    pub fn to_plain(&self) -> &Tensor {
        match self.layout {
            Layout::Plain => &self.primary,
            Layout::Nhwc => self.in_other(Layout::Plain),
        }
    }

    /// The tensor in NHWC order (as it is for ranks other than 4).
    pub fn to_nhwc(&self) -> &Tensor {
        match self.layout {
            Layout::Nhwc => &self.primary,
            Layout::Plain if self.rank() == 4 => self.in_other(Layout::Nhwc),
            Layout::Plain => &self.primary,
        }
    }

    fn in_other(&self, layout: Layout) -> &Tensor {
        self.other
            .get_or_init(|| Arc::new(permute(&self.primary, layout)))
    }

    /// The tensor in a given order, the elements without a copy where they are in that order.
    pub(crate) fn into_layout(self, layout: Layout) -> Tensor {
        if self.layout == layout || self.rank() != 4 {
            return self.primary;
        }
        self.in_layout(layout).clone()
    }

    /// The tensor in a given order.
    pub fn in_layout(&self, layout: Layout) -> &Tensor {
        if layout == Layout::Nhwc {
            self.to_nhwc()
        } else {
            self.to_plain()
        }
    }
}

/// A rank-4 tensor in the other physical order.
pub(crate) fn permute(tensor: &Tensor, to: Layout) -> Tensor {
    let &[a, b, c, d] = tensor.shape() else {
        return tensor.clone();
    };
    // To NHWC: [n, c, h*w] -> [n, h*w, c]; back: [n, h*w, c] -> [n, c, h*w]. Either way the two inner axes swap.
    let (shape, rows, columns) = match to {
        Layout::Nhwc => ([a, c, d, b], b, c * d),
        Layout::Plain => ([a, d, b, c], b * c, d),
    };
    if rows == 1 || columns == 1 {
        return tensor
            .clone()
            .reshape(&shape)
            .expect("invariant: a permutation keeps the length");
    }
    macro_rules! swap {
        ($($variant:ident),*) => {
            match tensor.data() {
                $(Data::$variant(values) => Tensor::new(&shape, swap_inner(values, a, rows, columns)),)*
                Data::String(values) => {
                    let idx = swap_inner(&(0..values.len()).collect::<Vec<_>>(), a, rows, columns);
                    Tensor::from_strings(&shape, idx.into_iter().map(|i| values[i].clone()).collect())
                }
                Data::Opaque(..) => {
                    let axes = if to == Layout::Nhwc { [0, 2, 3, 1] } else { [0, 3, 1, 2] };
                    let moved = View::transposed(tensor.shape(), &axes).copy(tensor, &shape);
                    Ok(moved.expect("invariant: every opaque type moves"))
                }
            }
        };
    }
    swap!(
        Float32, Float64, Float16, BFloat16, UInt8, Int8, UInt16, Int16, UInt32, Int32, UInt64, Int64, Bool
    )
    .expect("invariant: a permutation keeps the length")
}

/// `[n, rows, columns]` to `[n, columns, rows]`.
fn swap_inner<T: Copy + Default + Send + Sync + 'static>(
    x: &[T],
    n: usize,
    rows: usize,
    columns: usize,
) -> Vec<T> {
    let mut y = vec![T::default(); x.len()];
    qloupe_kernels::nchw_to_nhwc(x, n, rows, columns, &mut y);
    y
}

/// A tensor of rank up to 4 with leading dimensions of 1 added, in NHWC order: the operand of a broadcast.
pub(crate) fn broadcast_nhwc(tensor: &Tensor) -> Tensor {
    let mut shape = vec![1; 4_usize.saturating_sub(tensor.rank())];
    shape.extend_from_slice(tensor.shape());
    let padded = tensor
        .clone()
        .reshape(&shape)
        .expect("invariant: dimensions of 1 keep the length");
    permute(&padded, Layout::Nhwc)
}

/// An f32 buffer with the shape and order of `like`.
pub(crate) fn with_values<T: Element>(like: &Stored, values: Vec<T>) -> Stored {
    let tensor =
        Tensor::new(like.physical().shape(), values).expect("invariant: the caller keeps the length");
    Stored::of_call(tensor, like.layout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_are_found_from_either() {
        let plain = Tensor::new(&[1, 2, 1, 3], vec![1_f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let stored = Stored::plain(plain.clone());
        let nhwc = stored.to_nhwc();
        assert_eq!(
            (nhwc.shape(), nhwc.as_slice::<f32>().unwrap()),
            (&[1, 1, 3, 2][..], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0][..])
        );
        let back = Stored::of_call(nhwc.clone(), Layout::Nhwc);
        assert_eq!(back.to_plain(), &plain);
        assert_eq!(back.shape(), [1, 2, 1, 3]);
    }

    #[test]
    fn four_bit_elements_are_permuted_too() {
        let plain = Tensor::from_codes(DType::Int4, &[1, 2, 1, 3], vec![1, 2, 3, 4, 5, 6]).unwrap();
        let nhwc = permute(&plain, Layout::Nhwc);
        assert_eq!(nhwc.codes().unwrap().as_ref(), [1, 4, 2, 5, 3, 6]);
        assert_eq!(permute(&nhwc, Layout::Plain), plain);
    }

    #[test]
    fn a_channel_vector_broadcasts_along_the_last_axis() {
        let slope = Tensor::new(&[3, 1, 1], vec![1_f32, 2.0, 3.0]).unwrap();
        assert_eq!(broadcast_nhwc(&slope).shape(), [1, 1, 1, 3]);
    }
}
