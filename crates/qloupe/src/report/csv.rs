//! One line for each layer with every metric of every view, as RFC 4180 has it.

use super::{Options, Report, ReportFormat, View, view::figure_of};
use crate::metrics;

/// The layers as comma-separated values, at full precision.
pub(super) struct Csv;

impl ReportFormat for Csv {
    fn id(&self) -> &'static str {
        "csv"
    }
    fn extension(&self) -> Option<&'static str> {
        Some("csv")
    }
    fn write(&self, report: &Report, _options: &Options) -> String {
        const HEAD: [&str; 14] = [
            "name",
            "op_type",
            "node",
            "unit",
            "fused_into",
            "reason",
            "dtype",
            "shape",
            "scale",
            "zero_point",
            "range_min",
            "range_max",
            "n_nan",
            "n_infinite",
        ];
        let views = View::of_report(report);
        let columns = || {
            views
                .iter()
                .flat_map(|view| metrics::ALL.iter().map(move |m| (*view, m.id())))
        };
        let mut text = String::new();
        let head = HEAD.map(str::to_owned).into_iter();
        push_record(
            &mut text,
            head.chain(columns().map(|(view, id)| format!("{}.{id}", view.id()))),
        );
        for layer in &report.layers {
            let fields = [
                layer.name.clone(),
                layer.op_type.clone(),
                layer.node.clone(),
                layer.unit.join(" "),
                layer.fused_into.clone().unwrap_or_default(),
                layer.reason.clone().unwrap_or_default(),
                layer.dtype.clone(),
                joined(&layer.shape),
                joined(&layer.scale),
                joined(&layer.zero_point),
                layer.range.map_or_else(String::new, |r| r.min.to_string()),
                layer.range.map_or_else(String::new, |r| r.max.to_string()),
                layer.n_nan.to_string(),
                layer.n_infinite.to_string(),
            ];
            let figures = columns().map(|(view, id)| {
                let figure = view.of_layer(layer).and_then(|m| figure_of(m, id));
                figure.map_or_else(String::new, |x| x.to_string())
            });
            push_record(&mut text, fields.into_iter().chain(figures));
        }
        text
    }
}

fn joined<T: ToString>(values: &[T]) -> String {
    values.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn push_record(text: &mut String, fields: impl Iterator<Item = String>) {
    for (idx, field) in fields.enumerate() {
        if idx > 0 {
            text.push(',');
        }
        if field.contains(['"', ',', '\r', '\n']) {
            text.push('"');
            text.push_str(&field.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(&field);
        }
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::sample;

    #[test]
    fn the_sample_is_written() {
        let text = Csv.write(&sample(), &Options::default());
        assert!(text.lines().count() == sample().layers.len() + 1, "{text}");
        insta::assert_snapshot!(text.replace('\r', ""));
    }

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        let mut text = String::new();
        push_record(
            &mut text,
            ["a", "b,c", "say \"x\"", "", "two\nlines"]
                .map(str::to_owned)
                .into_iter(),
        );
        assert_eq!(text, "a,\"b,c\",\"say \"\"x\"\"\",,\"two\nlines\"\r\n");
    }
}
