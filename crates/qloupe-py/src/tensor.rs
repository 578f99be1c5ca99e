//! numpy arrays and tensors. An input is read in place and copied once, since a run may outlive it; an output hands its
//! buffer over to numpy.

use half::f16;
use numpy::{PyArray1, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use qloupe_tensor::{Data, Element, Tensor};

/// Tensors by name as a dict of arrays, in their order.
pub(crate) fn to_arrays(py: Python<'_>, named: Vec<(String, Tensor)>) -> PyResult<Bound<'_, PyDict>> {
    let arrays = PyDict::new(py);
    for (name, tensor) in named {
        arrays.set_item(name, to_array(py, tensor)?)?;
    }
    Ok(arrays)
}

/// A dict of arrays as tensors by name, in its order.
pub(crate) fn from_arrays(arrays: &Bound<'_, PyDict>) -> PyResult<Vec<(String, Tensor)>> {
    let mut named = Vec::with_capacity(arrays.len());
    for (name, array) in arrays {
        let name: String = name.extract()?;
        let tensor = from_array(&name, &array)?;
        named.push((name, tensor));
    }
    Ok(named)
}

fn from_array(name: &str, array: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    macro_rules! try_elements {
        ($($element:ty),*) => {$(
            if let Ok(array) = array.extract::<PyReadonlyArrayDyn<'_, $element>>() {
                return tensor_of(&array);
            }
        )*};
    }
    try_elements!(f32, f64, f16, u8, i8, u16, i16, u32, i32, u64, i64, bool);
    let dtype = array
        .getattr("dtype")
        .map_or_else(|_| "no array".to_owned(), |dtype| dtype.to_string());
    Err(PyTypeError::new_err(format!(
        "input \"{name}\": wrong dtype, expected an array of numbers, got {dtype}"
    )))
}

fn tensor_of<T: Element + numpy::Element>(array: &PyReadonlyArrayDyn<'_, T>) -> PyResult<Tensor> {
    let values = match array.as_slice() {
        Ok(values) => values.to_vec(),
        Err(_) => array.as_array().iter().copied().collect(),
    };
    Tensor::new(array.shape(), values).map_err(|error| PyTypeError::new_err(error.to_string()))
}

fn to_array(py: Python<'_>, tensor: Tensor) -> PyResult<Bound<'_, PyAny>> {
    let shape = tensor.shape().to_vec();
    macro_rules! numbers {
        ($element:ty) => {{
            let values = tensor
                .into_vec::<$element>()
                .map_err(|error| PyTypeError::new_err(error.to_string()))?;
            Ok(PyArray1::from_vec(py, values).reshape(shape)?.into_any())
        }};
    }
    match tensor.data() {
        Data::Float32(_) => numbers!(f32),
        Data::Float64(_) => numbers!(f64),
        Data::Float16(_) => numbers!(f16),
        Data::UInt8(_) => numbers!(u8),
        Data::Int8(_) => numbers!(i8),
        Data::UInt16(_) => numbers!(u16),
        Data::Int16(_) => numbers!(i16),
        Data::UInt32(_) => numbers!(u32),
        Data::Int32(_) => numbers!(i32),
        Data::UInt64(_) => numbers!(u64),
        Data::Int64(_) => numbers!(i64),
        Data::Bool(_) => numbers!(bool),
        Data::String(texts) => {
            let options = PyDict::new(py);
            options.set_item("dtype", "object")?;
            let flat = py
                .import("numpy")?
                .call_method("array", (texts.as_ref().clone(),), Some(&options))?;
            flat.call_method1("reshape", (shape,))
        }
        // numpy has no type for these: bfloat16 and smaller floats widen without loss, other codes have no numbers.
        Data::BFloat16(_) | Data::Opaque(..) => {
            let wide = tensor
                .to_f32()
                .map_err(|error| PyTypeError::new_err(error.to_string()))?;
            to_array(py, wide)
        }
    }
}
