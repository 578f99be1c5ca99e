//! The vendor's file: what is read, what is refused, what an edit changes.

use qloupe_tensor::Range;

use super::*;

/// An entry of the vendor's form.
fn entry(name: &str, dtype: &str, min: &str, max: &str) -> String {
    format!(
        "    {name}:\n        qtype: asym\n        qmethod: layer\n        dtype: {dtype}\n        min:\n        -   {min}\n        \
         max:\n        -   {max}\n        scale:\n        -   0.1\n        zero_point:\n        -   -128\n        ori_min:\n        \
         -   -2.0\n        ori_max:\n        -   7.5\n"
    )
}

fn cfg(layers: &str) -> String {
    let entries = [
        entry("input:0", "float32", "-1.0", "1.0"),
        entry("'123'", "int8", "0.0", "6.0"),
    ];
    format!(
        "custom_quantize_layers:{layers}\nquantize_parameters:\n{}",
        entries.concat()
    )
}

#[test]
fn names_types_and_ranges_are_read() {
    let long = "n".repeat(200);
    let text = cfg("      # 0.9997\n    /a/b: float16        # 0.98\n    'c: d': int8")
        + &format!(
            "    ? {long}\n    :   qtype: asym\n        dtype: int16\n        min: [-2.5]\n        max: [1e-3]\n"
        )
        + "    e #f:\n        dtype: float16\n        scale: []\n";
    assert!(is_rknn_cfg(&text));
    let cfg = RknnCfg::parse(&text).unwrap();
    let layers: Vec<_> = cfg
        .layers
        .iter()
        .map(|l| (l.name.as_str(), l.dtype.as_str()))
        .collect();
    assert_eq!(layers, [("/a/b", "float16"), ("c: d", "int8")]);
    let found: Vec<_> = cfg
        .entries
        .iter()
        .map(|entry| {
            let range = entry.range().unwrap().map(|(min, max)| (min.value, max.value));
            (entry.name.as_str(), entry.dtype.as_str(), range)
        })
        .collect();
    let expected = [
        ("input:0", "float32", Some((-1.0, 1.0))),
        ("123", "int8", Some((0.0, 6.0))),
        (long.as_str(), "int16", Some((-2.5, 1e-3))),
        ("e #f", "float16", None),
    ];
    assert_eq!(found, expected);
    assert_eq!((cfg.entries[1].line, cfg.entries[1].ori_max[0].value), (21, 7.5));
}

#[test]
fn each_refusal_has_its_text() {
    struct Case {
        text: &'static str,
        error: &'static str,
    }
    #[rustfmt::skip]
    let cases = [
        Case { text: "custom_quantize_layers: {}\n", error: "line 1: no section \"quantize_parameters\", expected the file of hybrid_quantization_step1" },
        Case { text: "quantize_parameters: 3\n", error: "line 1: section \"quantize_parameters\" is wrong, expected lines below it or {}, got \"3\"" },
        Case { text: "quantize_parameters:\n    x\n", error: "line 2: wrong syntax, expected `name: value` or `- value`, got \"x\"" },
        Case { text: "quantize_parameters:\n    'x:\n", error: "line 2: wrong syntax, expected `name: value` or `- value`, got \"'x:\"" },
        Case { text: "quantize_parameters:\n    ? x\n    y: 1\n", error: "line 3: wrong syntax, expected `name: value` or `- value`, got \"y: 1\"" },
        Case { text: "custom_quantize_layers:\n    - x\nquantize_parameters: {}\n", error: "line 2: no layer, expected `name: float16`, got \"x\"" },
        Case { text: "quantize_parameters:\n    x: int8\n", error: "line 2: tensor \"x\" is wrong, expected its fields in lines below, got \"int8\"" },
        Case { text: "quantize_parameters:\n    - 1.0\n", error: "line 2: no tensor, expected a name before a number, got \"1.0\"" },
        Case { text: "quantize_parameters:\n    x:\n        dtype: int8\n  y: 1\n", error: "line 4: no tensor, expected a name at the depth of the others, got \"y\"" },
        Case { text: "quantize_parameters:\n    x:\n        min:\n        -   abc\n", error: "line 4: min is wrong, expected a finite number, got \"abc\"" },
        Case { text: "quantize_parameters:\n    x:\n        max: [.inf]\n", error: "line 3: max is wrong, expected a finite number, got \".inf\"" },
        Case { text: "quantize_parameters:\n    x:\n        min: [0]\n", error: "line 2: \"x\" has no dtype, expected `dtype: int8`" },
    ];
    for Case { text, error } in cases {
        assert_eq!(RknnCfg::parse(text).unwrap_err(), error, "{text}");
    }
    let ranges = [
        (
            "min: [1, 2]\n        max: [3]",
            "line 2: range of \"x\" is wrong, expected one min and one max, got 2 and 1",
        ),
        (
            "min: [4]\n        max: [3]",
            "line 2: range of \"x\" is wrong, expected min of at most 3.0, got 4.0",
        ),
    ];
    for (fields, error) in ranges {
        let text = format!("quantize_parameters:\n    x:\n        dtype: int8\n        {fields}\n");
        assert_eq!(
            RknnCfg::parse(&text).unwrap().entries[0].range().unwrap_err(),
            error
        );
    }
}

#[test]
fn an_edit_keeps_every_other_byte() {
    struct Case {
        layers: &'static str,
        removed: &'static [&'static str],
        set: &'static [(&'static str, &'static str)],
        edited: &'static str,
    }
    let cases = [
        Case {
            layers: " {}",
            removed: &[],
            set: &[],
            edited: " {}",
        },
        Case {
            layers: " {}",
            removed: &[],
            set: &[("a", "float16")],
            edited: " \n    a: float16",
        },
        Case {
            layers: "   # 1\n    a: int8 # 2\n    b: int8",
            removed: &[],
            set: &[("b", "int16"), ("7", "float16")],
            edited: "   # 1\n    a: int8 # 2\n    b: int16\n    '7': float16",
        },
        Case {
            layers: "\n    a: int8",
            removed: &["a"],
            set: &[],
            edited: " {}",
        },
        Case {
            layers: "\n    a: int8",
            removed: &["a"],
            set: &[("b", "float16")],
            edited: "\n    b: float16",
        },
    ];
    for line_break in ["\n", "\r\n"] {
        for Case {
            layers,
            removed,
            set,
            edited,
        } in &cases
        {
            let text = cfg(layers).replace('\n', line_break);
            let parsed = RknnCfg::parse(&text).unwrap();
            let mut edit = parsed.edit();
            edit.set_range(&parsed.entries[1], Range { min: 0.0, max: 3.5 });
            for layer in parsed
                .layers
                .iter()
                .filter(|layer| removed.contains(&layer.name.as_str()))
            {
                edit.remove_layer(layer);
            }
            for (name, dtype) in *set {
                edit.set_layer(name, dtype);
            }
            let expected = cfg(edited)
                .replace("-   6.0", "-   3.5")
                .replace('\n', line_break);
            assert_eq!(edit.finish(), expected, "{layers}");
        }
    }
    let text = "quantize_parameters: {}\n";
    let parsed = RknnCfg::parse(text).unwrap();
    let mut edit = parsed.edit();
    edit.set_layer("a", "float16");
    assert_eq!(
        edit.finish(),
        format!("custom_quantize_layers:\n    a: float16\n{text}")
    );
}

#[test]
fn lists_that_repeat_another_keep_their_numbers() {
    let entry = |name: &str, min: &str, ori_min: &str| {
        format!(
            "    {name}:\n        dtype: int8\n        min: {min}\n        max: [1.0]\n        ori_min: {ori_min}\n"
        )
    };
    let cfg = |parts: [String; 3]| {
        format!(
            "custom_quantize_layers: {{}}\nquantize_parameters:\n{}",
            parts.concat()
        )
    };
    let text = cfg([
        entry("a", "&id001\n        -   -2.5", "*id001"),
        entry("b", "*id001", "&id002 [-3.0]"),
        entry("c", "*id001", "*id002"),
    ]);
    let parsed = RknnCfg::parse(&text).unwrap();
    let of = |entry: &Entry| (entry.min[0].value, entry.ori_min[0].value);
    assert_eq!(
        parsed.entries.iter().map(of).collect::<Vec<_>>(),
        [(-2.5, -2.5), (-2.5, -3.0), (-2.5, -3.0)]
    );
    let mut edit = parsed.edit();
    edit.set_range(&parsed.entries[0], Range { min: -1.0, max: 1.0 });
    edit.set_range(&parsed.entries[1], Range { min: -2.0, max: 1.0 });
    let expected = cfg([
        entry("a", "&id001\n        -   -1.0", "[-2.5]"),
        entry("b", "[-2.0]", "&id002 [-3.0]"),
        entry("c", "[-2.5]", "*id002"),
    ]);
    assert_eq!(edit.finish(), expected);
    let error = RknnCfg::parse("quantize_parameters:\n    x:\n        min: *id001\n").unwrap_err();
    assert_eq!(
        error,
        "line 3: min is wrong, expected an anchor of numbers above, got \"id001\""
    );
}
