//! The sliding window of convolutions and pools: attributes, padding, output sizes, and the taps of an output.

use qloupe_ir::Node;
use qloupe_tensor::n_elements;

use crate::{OpError, SymDim};

/// How the padding is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AutoPad {
    NotSet,
    SameUpper,
    SameLower,
    Valid,
}

/// The attributes of a window over `rank` spatial axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    pub(super) auto_pad: AutoPad,
    /// Explicit padding: before and after each axis.
    pub(super) pads: Vec<(usize, usize)>,
    /// Outputs round up: the last window may begin inside and end outside.
    pub(super) ceil_mode: bool,
}

/// A window applied to an input of known size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Applied {
    /// The padding, resolved.
    pub(super) pads: Vec<(usize, usize)>,
    /// The spatial output shape.
    pub(super) output: Vec<usize>,
}

/// Larger windows, along an axis and in all, are mistakes, and their products could overflow.
const MAX_EXTENT: usize = 1 << 30;

/// A list attribute of sizes, one for each spatial axis.
pub(super) fn sizes(
    node: &Node,
    name: &'static str,
    len: usize,
    default: usize,
    at_least: usize,
) -> Result<Vec<usize>, OpError> {
    let Some(list) = node.ints(name) else {
        return Ok(vec![default; len]);
    };
    let valid = |&v: &i64| {
        usize::try_from(v)
            .ok()
            .filter(|v| (at_least..=MAX_EXTENT).contains(v))
    };
    let sizes: Vec<usize> = list.iter().filter_map(valid).collect();
    if sizes.len() == len && list.len() == len {
        return Ok(sizes);
    }
    Err(OpError::attribute(
        name,
        format!("does not fit, expected {len} numbers of at least {at_least}, got {list:?}"),
    ))
}

impl Window {
    /// Reads the attributes; `kernel` is the spatial shape of the weight, where there is one.
    pub(super) fn new(node: &Node, rank: usize, kernel: Option<&[usize]>) -> Result<Self, OpError> {
        if node.ints("kernel_shape").is_none() && kernel.is_none() {
            return Err(OpError::attribute(
                "kernel_shape",
                format!("absent, expected {rank} numbers"),
            ));
        }
        let declared = sizes(node, "kernel_shape", rank, 1, 1)?;
        let kernel = match kernel {
            Some(kernel) if node.ints("kernel_shape").is_some() && kernel != declared => {
                return Err(OpError::attribute(
                    "kernel_shape",
                    format!("contradicts the weight, expected {kernel:?}, got {declared:?}"),
                ));
            }
            Some(kernel) => kernel.to_vec(),
            None => declared,
        };
        if kernel.contains(&0) {
            return Err(OpError::input(
                1,
                format!("empty kernel, expected at least 1, got {kernel:?}"),
            ));
        }
        if n_elements(&kernel).is_none_or(|n| n > MAX_EXTENT) {
            return Err(OpError::attribute(
                "kernel_shape",
                format!("too large, expected at most {MAX_EXTENT} taps, got {kernel:?}"),
            ));
        }
        let auto_pad = match node.string("auto_pad").unwrap_or("NOTSET") {
            "NOTSET" | "" => AutoPad::NotSet,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            "VALID" => AutoPad::Valid,
            other => {
                return Err(OpError::attribute(
                    "auto_pad",
                    format!("unknown, expected NOTSET, SAME_UPPER, SAME_LOWER or VALID, got {other}"),
                ));
            }
        };
        let pads = sizes(node, "pads", 2 * rank, 0, 0)?;
        let pads = if auto_pad == AutoPad::NotSet {
            (0..rank).map(|axis| (pads[axis], pads[rank + axis])).collect()
        } else {
            vec![(0, 0); rank]
        };
        Ok(Self {
            kernel,
            strides: sizes(node, "strides", rank, 1, 1)?,
            dilations: sizes(node, "dilations", rank, 1, 1)?,
            auto_pad,
            pads,
            ceil_mode: node.int("ceil_mode") == Some(1),
        })
    }

    /// The number of spatial axes.
    pub(super) fn rank(&self) -> usize {
        self.kernel.len()
    }

    /// The input elements that the kernel spans along an axis.
    pub(super) fn extent(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilations[axis] + 1
    }

    /// Padding and output sizes for a spatial input shape.
    pub(super) fn apply(&self, input: &[usize]) -> Result<Applied, OpError> {
        let mut applied = Applied {
            pads: Vec::with_capacity(self.rank()),
            output: Vec::with_capacity(self.rank()),
        };
        for (axis, &size) in input.iter().enumerate() {
            let (pads, output) = self.apply_axis(axis, size)?;
            applied.pads.push(pads);
            applied.output.push(output);
        }
        Ok(applied)
    }

    fn apply_axis(&self, axis: usize, size: usize) -> Result<((usize, usize), usize), OpError> {
        let (stride, extent) = (self.strides[axis], self.extent(axis));
        if matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
            let output = size.div_ceil(stride);
            let total = (output.saturating_sub(1) * stride + extent).saturating_sub(size);
            return Ok((split_padding(total, self.auto_pad), output));
        }
        let (begin, end) = self.pads[axis];
        let padded = size + begin + end;
        let Some(slack) = padded.checked_sub(extent) else {
            return Err(OpError::input(
                0,
                format!(
                    "smaller than the window on spatial axis {axis}, expected at least {extent} with padding, got {padded}"
                ),
            ));
        };
        let mut output = slack / stride + 1;
        if self.ceil_mode {
            output = slack.div_ceil(stride) + 1;
            // A window that would begin in the padding after the input does not exist.
            if (output - 1) * stride >= size + begin {
                output -= 1;
            }
        }
        Ok(((begin, end), output))
    }

    /// The spatial output shape for dimensions that may be open.
    pub(super) fn infer(
        &self,
        input: &[SymDim],
        open: impl Fn(usize) -> SymDim,
    ) -> Result<Vec<SymDim>, OpError> {
        let known = |v: usize| SymDim::from(v);
        input
            .iter()
            .enumerate()
            .map(|(axis, dim)| {
                if let Some(size) = dim.as_size() {
                    return Ok(known(self.apply_axis(axis, size)?.1));
                }
                let stride = known(self.strides[axis]);
                if matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
                    let rounded = dim.plus(&stride).minus(&known(1));
                    return Ok(rounded.floor_div(&stride));
                }
                if self.ceil_mode && self.strides[axis] > 1 {
                    return Ok(open(axis));
                }
                let (begin, end) = self.pads[axis];
                let slack = dim.plus(&known(begin + end)).minus(&known(self.extent(axis)));
                Ok(slack.floor_div(&stride).plus(&known(1)))
            })
            .collect()
    }
}

/// A total padding split in two halves; the odd element goes where the mode says.
pub(super) fn split_padding(total: usize, auto_pad: AutoPad) -> (usize, usize) {
    let (small, large) = (total / 2, total - total / 2);
    if auto_pad == AutoPad::SameLower {
        (large, small)
    } else {
        (small, large)
    }
}

/// The spatial part of a shape `[N, C, ..]`.
pub(super) fn spatial<T>(shape: &[T]) -> Result<&[T], OpError> {
    match shape {
        [_, _, spatial @ ..] if !spatial.is_empty() => Ok(spatial),
        _ => Err(OpError::input(
            0,
            format!(
                "wrong rank, expected at least 3 ([N, C, ..]), got {}",
                shape.len()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qloupe_ir::AttributeValue;

    fn node(attributes: &[(&str, &[i64])], auto_pad: &str, ceil_mode: i64) -> Node {
        let start = Node::default()
            .with_attribute("auto_pad", AttributeValue::String(auto_pad.as_bytes().to_vec()))
            .with_attribute("ceil_mode", AttributeValue::Int(ceil_mode));
        attributes.iter().fold(start, |node, (name, list)| {
            node.with_attribute(name, AttributeValue::Ints(list.to_vec()))
        })
    }

    #[test]
    fn output_sizes_and_padding() {
        struct Case(&'static str, i64, i64, usize, (usize, usize), usize);
        let cases = [
            Case("NOTSET", 0, 2, 6, (0, 0), 2),
            Case("NOTSET", 1, 2, 6, (0, 0), 3),
            Case("SAME_UPPER", 0, 2, 6, (0, 1), 3),
            Case("SAME_LOWER", 0, 2, 6, (1, 0), 3),
            Case("VALID", 0, 1, 6, (0, 0), 4),
        ];
        for Case(auto_pad, ceil_mode, stride, size, pads, output) in cases {
            let node = node(
                &[("kernel_shape", &[3]), ("strides", &[stride])],
                auto_pad,
                ceil_mode,
            );
            let applied = Window::new(&node, 1, None).unwrap().apply(&[size]).unwrap();
            assert_eq!(
                (applied.pads[0], applied.output[0]),
                (pads, output),
                "{auto_pad} {ceil_mode}"
            );
        }
    }

    #[test]
    fn open_dimensions_keep_the_formula() {
        let node = node(
            &[("kernel_shape", &[3]), ("strides", &[2]), ("pads", &[1, 1])],
            "NOTSET",
            0,
        );
        let window = Window::new(&node, 1, None).unwrap();
        let dims = window
            .infer(&[SymDim::symbol("h")], |_| SymDim::symbol("?"))
            .unwrap();
        assert_eq!(dims[0].to_string(), "floor((h-1)/2)+1");
    }

    #[test]
    fn mistakes_are_named() {
        let small = node(&[("kernel_shape", &[7])], "NOTSET", 0);
        let error = Window::new(&small, 1, None).unwrap().apply(&[4]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "input 0: smaller than the window on spatial axis 0, expected at least 7 with padding, got 4"
        );
        let stride = node(&[("kernel_shape", &[1]), ("strides", &[0])], "NOTSET", 0);
        assert_eq!(
            Window::new(&stride, 1, None).unwrap_err().to_string(),
            "attribute \"strides\": does not fit, expected 1 numbers of at least 1, got [0]"
        );
        assert_eq!(
            Window::new(&Node::default(), 2, None).unwrap_err().to_string(),
            "attribute \"kernel_shape\": absent, expected 2 numbers"
        );
    }
}
