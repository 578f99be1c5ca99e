//! A total order of the elements of a tensor, for operators that sort.

use std::cmp::Ordering;

use qloupe_tensor::{Data, Tensor};

use crate::OpError;

/// Compares two elements by their positions.
pub(super) type Order<'a> = Box<dyn Fn(usize, usize) -> Ordering + 'a>;

/// The order of the elements: NaN after every number, -0 equal to 0, strings by their bytes.
pub(super) fn order_of(tensor: &Tensor) -> Result<Order<'_>, OpError> {
    macro_rules! by_variant {
        ($($variant:ident),*; $($float:ident),*) => {
            match tensor.data() {
                $(Data::$variant(v) => Box::new(move |a, b| v[a].cmp(&v[b])),)*
                $(Data::$float(v) => Box::new(move |a, b| {
                    v[a].partial_cmp(&v[b]).unwrap_or_else(|| v[a].is_nan().cmp(&v[b].is_nan()))
                }),)*
                Data::Opaque(dtype, _) => return Err(OpError::unsupported(format!("sorting elements of {dtype}"))),
            }
        };
    }
    Ok(by_variant!(
        UInt8, Int8, UInt16, Int16, UInt32, Int32, UInt64, Int64, Bool, String; Float32, Float64, Float16, BFloat16
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_is_last_and_zeros_are_equal() {
        let x = Tensor::vector(vec![f32::NAN, f32::INFINITY, -0.0, 0.0]);
        let order = order_of(&x).unwrap();
        assert_eq!(order(0, 1), Ordering::Greater);
        assert_eq!(order(0, 0), Ordering::Equal);
        assert_eq!(order(2, 3), Ordering::Equal);
    }
}
