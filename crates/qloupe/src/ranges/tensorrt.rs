//! TensorRT's calibration cache: a head `TRT-8601-EntropyCalibration2`, then `name: 3c010a14` for each tensor.

use qloupe_tensor::Range;

use super::{FileRanges, RangeFormat, numbered_lines};

/// What every head begins with.
const HEAD: &str = "TRT-";
/// Hex digits of a float32.
const N_DIGITS: usize = 8;
/// The largest integer of a symmetric int8 scale.
const QUANT_MAX: f32 = 127.0;

/// The bits of a symmetric scale, big-endian: `range = [-scale * 127, scale * 127]`.
pub(super) struct TensorRt;

impl RangeFormat for TensorRt {
    fn id(&self) -> &'static str {
        "tensorrt"
    }

    fn title(&self) -> &'static str {
        "calibration cache of TensorRT"
    }

    fn recognizes(&self, text: &str) -> bool {
        text.starts_with(HEAD)
            && text
                .lines()
                .next()
                .is_some_and(|head| head.contains("Calibration"))
    }

    fn parse(&self, text: &str) -> Result<FileRanges, String> {
        let mut found = FileRanges::default();
        for (number, line) in numbered_lines(text)
            .skip(1)
            .filter(|(_, line)| !line.trim().is_empty())
        {
            let in_line = |what: String| format!("line {number}: {what}");
            let (name, digits) = line
                .rsplit_once(": ")
                .ok_or_else(|| in_line(format!("no scale, expected `name: 3c010a14`, got {line:?}")))?;
            let scale = parse_scale(digits.trim()).ok_or_else(|| {
                let what = format!("scale of \"{name}\" is wrong");
                in_line(format!(
                    "{what}, expected the {N_DIGITS} hex digits of a finite float32 of at least 0, got {:?}",
                    digits.trim()
                ))
            })?;
            let largest = scale * QUANT_MAX;
            if !largest.is_finite() {
                return Err(in_line(format!(
                    "scale of \"{name}\" is too large, expected at most {:e}, got {scale:e}",
                    f32::MAX / QUANT_MAX
                )));
            }
            found.ranges.push((
                name.trim().to_owned(),
                Range {
                    min: -largest,
                    max: largest,
                },
            ));
        }
        Ok(found)
    }
}

fn parse_scale(digits: &str) -> Option<f32> {
    let is_hex = digits.len() == N_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bits = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    Some(f32::from_bits(bits)).filter(|scale| scale.is_finite() && *scale >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_become_symmetric_ranges() {
        let text = "TRT-8601-EntropyCalibration2\r\nx:0: 3f800000\r\n\n(Unnamed Layer* 0) [Convolution]_output: 3d000000\n";
        let found = TensorRt.parse(text).unwrap();
        let symmetric = |max: f32| Range { min: -max, max };
        let expected = vec![
            ("x:0".to_owned(), symmetric(127.0)),
            (
                "(Unnamed Layer* 0) [Convolution]_output".to_owned(),
                symmetric(3.96875),
            ),
        ];
        assert_eq!(found.ranges, expected);
        assert!(found.layers.is_empty() && found.dtypes.is_empty(), "{found:?}");
    }

    #[test]
    fn each_refusal_has_its_text() {
        struct Case {
            line: &'static str,
            error: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { line: "x", error: "line 3: no scale, expected `name: 3c010a14`, got \"x\"" },
            Case { line: "x: 3f80000", error: "line 3: scale of \"x\" is wrong, expected the 8 hex digits of a finite float32 of at least 0, got \"3f80000\"" },
            Case { line: "x: +f800000", error: "line 3: scale of \"x\" is wrong, expected the 8 hex digits of a finite float32 of at least 0, got \"+f800000\"" },
            Case { line: "x: 7fc00000", error: "line 3: scale of \"x\" is wrong, expected the 8 hex digits of a finite float32 of at least 0, got \"7fc00000\"" },
            Case { line: "x: bf800000", error: "line 3: scale of \"x\" is wrong, expected the 8 hex digits of a finite float32 of at least 0, got \"bf800000\"" },
            Case { line: "x: 7f000000", error: "line 3: scale of \"x\" is too large, expected at most 2.6793887e36, got 1.7014118e38" },
        ];
        for Case { line, error } in cases {
            let text = format!("TRT-8601-MinMaxCalibration\ny: 3f800000\n{line}\n");
            assert_eq!(TensorRt.parse(&text).unwrap_err(), error);
        }
    }
}
