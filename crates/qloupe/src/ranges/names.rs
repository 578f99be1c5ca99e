//! From names of a converted graph back to names of the ONNX model.

use std::collections::BTreeSet;

/// What rknn-toolkit2 appends to the name of a value that it reshapes (`-rs`, `_rs`), transposes (`_tp`, `_sw`), casts
/// (`_int8`, `__float16`) or computes with another operator (`_mm`: a Gemm or MatMul as convolution; `_sdpa`, `_2ln`:
/// attention and LayerNorm in one). Others (`_conv`, `_2conv0`, `_2sdpa_q_matmul`) name values that the model does not have.
const SUFFIXES: &[&str] = &[
    "-rs",
    "_rs",
    "_tp",
    "_sw",
    "_mm",
    "_sdpa",
    "_2ln",
    "__float16",
    "_float16",
    "_float32",
    "_int8",
    "_int16",
];
/// Before a number: `_dup1`, a copy.
const COPY: &str = "_dup";
/// Before a word: `_before_reshape`.
const BEFORE: &str = "_before_";

/// The value that a name stands for, and how many suffixes had to go.
pub(crate) fn original<'k>(name: &str, known: &BTreeSet<&'k str>) -> Option<(&'k str, usize)> {
    let mut rest = name;
    let mut n_removed = 0;
    loop {
        if let Some(found) = known.get(rest) {
            return Some((found, n_removed));
        }
        rest = without_suffix(rest)?;
        n_removed += 1;
    }
}

fn without_suffix(name: &str) -> Option<&str> {
    if let Some(rest) = SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)) {
        return Some(rest);
    }
    let behind = |mark: &str| name.rfind(mark).map(|at| (&name[..at], &name[at + mark.len()..]));
    let is = |text: &str, fits: fn(char) -> bool| !text.is_empty() && text.chars().all(fits);
    let copy = behind(COPY).filter(|(_, number)| is(number, |c| c.is_ascii_digit()));
    let before = || behind(BEFORE).filter(|(_, word)| is(word, |c| c.is_ascii_alphanumeric()));
    copy.or_else(before).map(|(rest, _)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_go_until_a_value_is_found() {
        let known = BTreeSet::from(["x", "output0", "p2o.Add.277", "a_int8"]);
        let cases = [
            ("x", Some(("x", 0))),
            ("x_int8", Some(("x", 1))),
            ("a_int8", Some(("a_int8", 0))),
            ("p2o.Add.277-rs_sw", Some(("p2o.Add.277", 2))),
            ("output0_mm_tp_sw__float16", Some(("output0", 4))),
            ("x_dup12-rs", Some(("x", 2))),
            ("x_before_reshape", Some(("x", 1))),
            ("x_dup", None),
            ("x_conv", None),
            ("x_2conv0", None),
            ("-rs", None),
            ("y_int8", None),
        ];
        for (name, expected) in cases {
            assert_eq!(original(name, &known), expected, "{name}");
        }
    }
}
