//! ONNX Runtime's calibration caches in JSON: `TensorsData`, and the table that older versions write beside it.

use qloupe_tensor::Range;
use serde_json::{Map, Value};

use super::{FileRanges, RangeFormat};

/// `{"CLS": "TensorsData", "data": {NAME: {"lowest": .., "highest": ..}}}` of `calibration_cache_path`, or
/// `{NAME: {"lowest": .., "highest": ..}}` and `{NAME: [lowest, highest]}` of `write_calibration_table`.
pub(super) struct OnnxRuntime;

impl RangeFormat for OnnxRuntime {
    fn id(&self) -> &'static str {
        "onnxruntime"
    }

    fn title(&self) -> &'static str {
        "calibration cache of ONNX Runtime, in JSON"
    }

    fn recognizes(&self, text: &str) -> bool {
        text.trim_start().starts_with('{')
    }

    fn parse(&self, text: &str) -> Result<FileRanges, String> {
        let mut whole: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            format!(
                "line {}: {what}, expected JSON of ONNX Runtime's calibration",
                error.line()
            )
        })?;
        let tensors = match whole.get("CLS") {
            Some(class) if class == "TensorsData" => match whole.remove("data") {
                Some(Value::Object(data)) => data,
                other => return Err(wrong("data", "an object", other.as_ref())),
            },
            Some(other) => return Err(wrong("CLS", "\"TensorsData\"", Some(other))),
            None => whole,
        };
        let ranges = tensors
            .iter()
            .map(|(name, value)| Ok((name.clone(), range_of(name, value)?)));
        Ok(FileRanges {
            ranges: ranges.collect::<Result<_, String>>()?,
            ..FileRanges::default()
        })
    }
}

fn range_of(name: &str, value: &Value) -> Result<Range, String> {
    let (min, max) = match value {
        Value::Array(pair) if pair.len() == 2 => (
            number(&format!("tensor \"{name}\", element 0"), pair.first())?,
            number(&format!("tensor \"{name}\", element 1"), pair.get(1))?,
        ),
        Value::Object(fields) => (
            number(&format!("tensor \"{name}\", lowest"), fields.get("lowest"))?,
            number(&format!("tensor \"{name}\", highest"), fields.get("highest"))?,
        ),
        other => {
            let place = format!("tensor \"{name}\"");
            return Err(wrong(
                &place,
                "an object with lowest and highest, or [lowest, highest]",
                Some(other),
            ));
        }
    };
    if min > max {
        return Err(format!(
            "tensor \"{name}\": lowest is above highest, expected at most {max:?}, got {min:?}"
        ));
    }
    Ok(Range { min, max })
}

/// A number; or a numpy array of one.
fn number(place: &str, value: Option<&Value>) -> Result<f32, String> {
    let data = match value {
        Some(Value::Object(array)) if array.get("CLS").is_some_and(|class| class == "numpy.array") => {
            array.get("data")
        }
        other => other,
    };
    let mut inner = data;
    while let Some(Value::Array(elements)) = inner {
        match elements.as_slice() {
            [only] => inner = Some(only),
            several => {
                return Err(format!(
                    "{place}: expected one number for the tensor, got {} of them",
                    several.len()
                ));
            }
        }
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "ranges are float32; what overflows is refused here"
    )]
    let found = inner.and_then(Value::as_f64).map(|number| number as f32);
    found
        .filter(|number| number.is_finite())
        .ok_or_else(|| wrong(place, "a finite number", data))
}

fn wrong(place: &str, expected: &str, got: Option<&Value>) -> String {
    match got {
        Some(got) => format!("{place}: wrong value, expected {expected}, got {got}"),
        None => format!("{place}: missing, expected {expected}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        let array =
            |data: &str| format!("{{\"data\": {data}, \"dtype\": \"float32\", \"CLS\": \"numpy.array\"}}");
        let tensor = |low: &str, high: &str| {
            format!(
                "{{\"x:0\": {{\"lowest\": {low}, \"highest\": {high}, \"hist\": {}, \"CLS\": \"TensorData\"}}}}",
                array("[1, 2]")
            )
        };
        let of_class = |data: &str| {
            let method = "\"calibration_method\": {\"CLS\": \"CalibrationMethod\", \"value\": \"CalibrationMethod.MinMax\"}";
            format!("{{\"CLS\": \"TensorsData\", \"data\": {data}, {method}, \"smooth_quant\": false}}")
        };
        let texts = [
            of_class(&tensor("-1.5", "2.25")),
            of_class(&tensor(&array("-1.5"), &array("[2.25]"))),
            tensor("-1.5", "2.25"),
            "{\"x:0\": [-1.5, 2.25]}".to_owned(),
        ];
        for text in texts {
            assert!(OnnxRuntime.recognizes(&text), "{text}");
            let range = Range { min: -1.5, max: 2.25 };
            assert_eq!(
                OnnxRuntime.parse(&text).unwrap().ranges,
                [("x:0".to_owned(), range)],
                "{text}"
            );
        }
    }

    #[test]
    fn each_refusal_has_its_text() {
        struct Case {
            text: &'static str,
            error: &'static str,
        }
        #[rustfmt::skip]
        let cases = [
            Case { text: "{\n\"x\": [1, 2],\n", error: "line 3: EOF while parsing a value, expected JSON of ONNX Runtime's calibration" },
            Case { text: "{\"CLS\": \"Recipe\"}", error: "CLS: wrong value, expected \"TensorsData\", got \"Recipe\"" },
            Case { text: "{\"CLS\": \"TensorsData\"}", error: "data: missing, expected an object" },
            Case { text: "{\"x\": 3}", error: "tensor \"x\": wrong value, expected an object with lowest and highest, or [lowest, highest], got 3" },
            Case { text: "{\"x\": {\"avg\": 1.0}}", error: "tensor \"x\", lowest: missing, expected a finite number" },
            Case { text: "{\"x\": {\"lowest\": 0, \"highest\": \"6\"}}", error: "tensor \"x\", highest: wrong value, expected a finite number, got \"6\"" },
            Case { text: "{\"x\": [0, 1e39]}", error: "tensor \"x\", element 1: wrong value, expected a finite number, got 1e+39" },
            Case { text: "{\"x\": [[0, 1], [2, 3]]}", error: "tensor \"x\", element 0: expected one number for the tensor, got 2 of them" },
            Case { text: "{\"x\": [2, 1]}", error: "tensor \"x\": lowest is above highest, expected at most 1.0, got 2.0" },
        ];
        for Case { text, error } in cases {
            assert_eq!(OnnxRuntime.parse(text).unwrap_err(), error, "{text}");
        }
    }
}
