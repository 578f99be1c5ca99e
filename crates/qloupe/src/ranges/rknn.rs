//! The `.quantization.cfg` of the vendor's hybrid quantization: ranges of activations and types of layers.

use std::collections::BTreeMap;

use qloupe_tensor::Range;

use super::{FileRanges, RangeFormat};
use crate::rknn_cfg::{RknnCfg, is_rknn_cfg};

/// The type of the entries whose range counts.
pub(crate) const INT8: &str = "int8";

/// `min` and `max` of `quantize_parameters`, `custom_quantize_layers`, and the type of every tensor.
///
/// Only int8 tensors have ranges that count: int16 and int32 ones are constants, and a float one may have the name of the
/// value before it (`p2o.Add.277-rs_sw` is the Softmax of `p2o.Add.277`).
pub(super) struct Rknn;

impl RangeFormat for Rknn {
    fn id(&self) -> &'static str {
        "rknn"
    }

    fn title(&self) -> &'static str {
        ".quantization.cfg of rknn-toolkit2"
    }

    fn recognizes(&self, text: &str) -> bool {
        is_rknn_cfg(text)
    }

    fn is_of_converted_graph(&self) -> bool {
        true
    }

    fn parse(&self, text: &str) -> Result<FileRanges, String> {
        let cfg = RknnCfg::parse(text)?;
        let mut found = FileRanges::default();
        for entry in &cfg.entries {
            found.dtypes.push((entry.name.clone(), entry.dtype.clone()));
            let range = entry.range()?.filter(|_| entry.dtype == INT8);
            if let Some((min, max)) = range {
                let range = Range {
                    min: min.value,
                    max: max.value,
                };
                found.ranges.push((entry.name.clone(), range));
            }
        }
        let layers: BTreeMap<_, _> = cfg
            .layers
            .into_iter()
            .map(|layer| (layer.name, layer.dtype))
            .collect();
        found.layers = layers.into_iter().collect();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_have_ranges_and_everything_a_type() {
        let text = "custom_quantize_layers:\n    b-rs: float16\nquantize_parameters:\n    a:\n        dtype: int8\n        min: [-1.5]\n        \
                    max: [2.5]\n    c:\n        dtype: int32\n        min: [0]\n        max: [9]\n    b-rs:\n        dtype: float16\n        \
                    min:\n        -   0.0\n        max:\n        -   1.0\n        scale: []\n";
        assert!(Rknn.recognizes(text));
        let found = Rknn.parse(text).unwrap();
        let range = |name: &str, min, max| (name.to_owned(), Range { min, max });
        assert_eq!(found.ranges, [range("a", -1.5, 2.5)]);
        assert_eq!(found.layers, [("b-rs".to_owned(), "float16".to_owned())]);
        assert_eq!(found.dtypes.len(), 3);
        let wrong = text.replace("[-1.5]", "[-1.5, 0]");
        let error = "line 4: range of \"a\" is wrong, expected one min and one max, got 2 and 1";
        assert_eq!(Rknn.parse(&wrong).unwrap_err(), error);
    }
}
