//! `report.json`: everything, at full precision.

use super::{Options, Report, ReportFormat};

/// The report as JSON; `docs/report.schema.md` documents the fields.
pub(super) struct Json;

impl ReportFormat for Json {
    fn id(&self) -> &'static str {
        "json"
    }
    fn extension(&self) -> Option<&'static str> {
        Some("json")
    }
    fn write(&self, report: &Report, _options: &Options) -> String {
        let mut text =
            serde_json::to_string_pretty(report).expect("invariant: all keys of a report are strings");
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::metrics;
    use crate::report::View;
    use crate::report::sample::{on_device, sample};

    #[test]
    fn the_sample_is_written() {
        let mut report = sample();
        report.layers.truncate(2);
        report.layers[0]
            .views
            .entire
            .retain(|id, _| matches!(id.as_str(), "cosine" | "sqnr_db"));
        report.layers[0].views.tensor.clear();
        report.layers[0].views.local.clear();
        report.outputs[0].views.entire.clear();
        report.outputs[0].slices.remove(0);
        insta::assert_snapshot!(Json.write(&report, &Options::default()));
    }

    #[test]
    fn what_is_written_comes_back() {
        let report = on_device();
        let back: Report = serde_json::from_str(&Json.write(&report, &Options::default())).unwrap();
        assert_eq!(back.layers.len(), report.layers.len());
        for (back, layer) in back.layers.iter().zip(&report.layers) {
            assert_eq!(
                (&back.name, &back.reason, &back.scale),
                (&layer.name, &layer.reason, &layer.scale)
            );
            for view in View::ALL {
                let figures = |layer| -> Vec<String> {
                    let metrics = view.of_layer(layer).into_iter().flatten();
                    metrics
                        .map(|(id, m)| format!("{id} {:.12e} {}", m.value, m.n))
                        .collect()
                };
                assert_eq!(figures(back), figures(layer), "{}", layer.name);
            }
        }
        assert_eq!((back.findings, back.skipped), (report.findings, report.skipped));
        assert_eq!((back.costs, back.notes), (report.costs, report.notes));
    }

    #[test]
    fn every_field_and_metric_is_documented() {
        fn keys(value: &serde_json::Value, found: &mut Vec<String>) {
            match value {
                serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
                serde_json::Value::Object(fields) => {
                    for (key, field) in fields {
                        found.push(key.clone());
                        // The keys of these are network outputs.
                        let of_outputs = matches!(key.as_str(), "alone" | "rescued");
                        let inner = field.as_object().filter(|_| of_outputs);
                        match inner {
                            Some(outputs) => outputs.values().for_each(|metrics| keys(metrics, found)),
                            None => keys(field, found),
                        }
                    }
                }
                _ => {}
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/report.schema.md");
        let doc = std::fs::read_to_string(path).unwrap();
        let text = Json.write(&on_device(), &Options::default());
        let mut found = Vec::new();
        keys(&serde_json::from_str(&text).unwrap(), &mut found);
        for key in &found {
            assert!(doc.contains(&format!("`{key}`")), "{key}");
        }
        for metric in metrics::ALL {
            // A bar would end the cell of a table.
            let row = format!("| `{}` | {} |", metric.id(), metric.formula().replace('|', "\\|"));
            assert!(doc.contains(&row), "{row}");
        }
    }
}
