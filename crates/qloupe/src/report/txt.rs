//! The vendor's `error_analysis.txt`, so that its readers and scripts feel at home. Unlike there, columns never collide
//! and a layer without numbers says why.

use super::grid::{printable, width};
use super::view::figure_of;
use super::{Layer, Metrics, Options, Report, ReportFormat, TxtStyle, View};

/// The vendor's layout, 2.x or 1.3.
pub(super) struct Txt;

impl ReportFormat for Txt {
    fn id(&self) -> &'static str {
        "txt"
    }
    fn extension(&self) -> Option<&'static str> {
        Some("txt")
    }
    fn write(&self, report: &Report, options: &Options) -> String {
        match options.txt_style {
            TxtStyle::V2 => write(report, &V2),
            TxtStyle::V1_3 => write(report, &V1_3),
        }
    }
}

/// One of the vendor's layouts.
struct Layout {
    simulator: Group,
    runtime: Group,
    /// (head, metric) of the figures of a view.
    figures: &'static [(&'static str, &'static str)],
    /// Between groups.
    separator: &'static str,
}

/// Columns under one heading.
struct Group {
    title: &'static str,
    about: &'static str,
    /// (view, the vendor's name of it, what it says).
    views: &'static [(View, &'static str, &'static str)],
}

const V2: Layout = Layout {
    simulator: Group {
        title: "simulator_error",
        about: "calculate the output error of each layer of the simulator (compared to the 'golden' value).",
        views: &[
            (
                View::Entire,
                "entire",
                "output error of each layer between 'golden' and 'simulator', these errors will accumulate layer by layer.",
            ),
            (
                View::Local,
                "single",
                "single-layer output error between 'golden' and 'simulator', can better reflect the single-layer accuracy of the simulator.",
            ),
        ],
    },
    runtime: Group {
        title: "runtime_error",
        about: "calculate the output error of each layer of the runtime.",
        views: &[
            (
                View::RuntimeEntire,
                "entire",
                "output error of each layer between 'golden' and 'runtime', these errors will accumulate layer by layer.",
            ),
            (
                View::RuntimeLocal,
                "single_sim",
                "single-layer output error between 'simulator' and 'runtime', can better reflect the single-layer accuracy of runtime.",
            ),
        ],
    },
    figures: &[("cos", "cosine"), ("euc", "euclidean")],
    separator: "   ",
};

const V1_3: Layout = Layout {
    simulator: Group {
        title: "quant_error",
        about: "cosine between the float model and the quantized model.",
        views: &[
            (
                View::Entire,
                "entire",
                "everything quantized, errors accumulate layer by layer.",
            ),
            (
                View::Local,
                "per_layer",
                "this layer quantized, fed the inputs of the float model.",
            ),
        ],
    },
    runtime: Group {
        title: "runtime_error",
        about: "cosine of the device's results.",
        views: &[
            (
                View::RuntimeSimulator,
                "simu_err",
                "between the simulator and the device.",
            ),
            (
                View::RuntimeEntire,
                "golden_err",
                "between the float model and the device.",
            ),
        ],
    },
    figures: &[("cos", "cosine")],
    separator: " | ",
};

fn write(report: &Report, layout: &Layout) -> String {
    let mut groups = vec![&layout.simulator];
    if report.layers.iter().any(|layer| layer.runtime.is_some()) {
        groups.push(&layout.runtime);
    }
    let mut lines = Vec::new();
    for group in &groups {
        lines.push(format!("# {}: {}", group.title, group.about));
        for (_, name, about) in group.views {
            lines.push(format!(
                "# {:>width$}{name}: {about}",
                "",
                width = group.title.len() - 2
            ));
        }
    }
    lines.push(String::new());
    let table = Table::new(report, layout, groups);
    lines.extend(table.heads());
    let rows = table.rows();
    let rule = lines
        .iter()
        .chain(&rows)
        .filter(|l| !l.starts_with('#'))
        .map(|l| width(l))
        .max();
    lines.push("-".repeat(rule.unwrap_or_default()));
    lines.extend(rows);
    lines.extend(report.notes.iter().map(|note| format!("# {}", printable(note))));
    lines
        .iter()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

struct Table<'a> {
    report: &'a Report,
    layout: &'a Layout,
    groups: Vec<&'a Group>,
    names: Vec<String>,
    name_width: usize,
    /// The width of each figure of `layout`, the same in all views.
    figure_widths: Vec<usize>,
}

impl<'a> Table<'a> {
    fn new(report: &'a Report, layout: &'a Layout, groups: Vec<&'a Group>) -> Self {
        let names: Vec<_> = report
            .layers
            .iter()
            .map(|l| printable(&format!("[{}] {}", l.op_type, l.name)))
            .collect();
        let name_width = names
            .iter()
            .map(|n| width(n))
            .max()
            .unwrap_or_default()
            .max("layer_name".len());
        let views = || groups.iter().flat_map(|group| group.views).map(|view| view.0);
        let figure_widths = layout
            .figures
            .iter()
            .map(|(_, metric)| {
                let cells = report.layers.iter().flat_map(|layer| {
                    views()
                        .filter_map(|view| view.of_layer(layer))
                        .map(|metrics| figure(metrics, metric).len())
                });
                // As wide as the vendor's "0.99997" and "25.19727" at least, so that heads fit.
                cells.max().unwrap_or_default().max(7)
            })
            .collect();
        Self {
            report,
            layout,
            groups,
            names,
            name_width,
            figure_widths,
        }
    }

    fn view_width(&self) -> usize {
        let figures: usize = self.figure_widths.iter().sum();
        // The longest view name of a cosine-only layout is wider than its figure.
        (figures + 3 * (self.figure_widths.len() - 1)).max("golden_err".len())
    }

    fn heads(&self) -> Vec<String> {
        let between = self.layout.separator;
        let view_width = self.view_width();
        let row = |of_group: &dyn Fn(&Group) -> String| {
            self.groups
                .iter()
                .map(|group| of_group(group))
                .collect::<Vec<_>>()
                .join(between)
        };
        let group_width = |group: &Group| group.views.len() * (view_width + 3) - 3;
        let titles = row(&|group| format!("{:^width$}", group.title, width = group_width(group)));
        let views = row(&|group| {
            let names = group
                .views
                .iter()
                .map(|(_, name, _)| format!("{name:^view_width$}"));
            names.collect::<Vec<_>>().join("   ")
        });
        let indent = self.name_width;
        let mut heads = vec![
            format!("{:<indent$}   {titles}", "layer_name"),
            format!("{:<indent$}   {views}", ""),
        ];
        if self.layout.figures.len() > 1 {
            let figures = row(&|group| {
                let cells = self.layout.figures.iter().zip(&self.figure_widths);
                let one = cells
                    .map(|((head, _), width)| format!("{head:^width$}"))
                    .collect::<Vec<_>>()
                    .join("   ");
                vec![one; group.views.len()].join("   ")
            });
            heads.push(format!("{:<indent$}   {figures}", ""));
        }
        heads
    }

    fn rows(&self) -> Vec<String> {
        let layers = self.report.layers.iter().zip(&self.names);
        layers.map(|(layer, name)| self.row(layer, name)).collect()
    }

    fn row(&self, layer: &Layer, name: &str) -> String {
        let blank = " ".repeat(self.name_width - width(name));
        let any = self
            .groups
            .iter()
            .flat_map(|g| g.views)
            .any(|view| view.0.of_layer(layer).is_some());
        let figures = if any {
            let groups = self.groups.iter().map(|group| {
                let cells = group
                    .views
                    .iter()
                    .map(|(view, ..)| self.cell(view.of_layer(layer)));
                cells.collect::<Vec<_>>().join("   ")
            });
            groups.collect::<Vec<_>>().join(self.layout.separator)
        } else {
            printable(layer.reason.as_deref().unwrap_or("not measured"))
        };
        format!("{name}{blank}   {figures}")
    }

    fn cell(&self, metrics: Option<&Metrics>) -> String {
        let text = metrics.map_or_else(
            || "not measured".to_owned(),
            |metrics| {
                let cells = self.layout.figures.iter().zip(&self.figure_widths);
                let cells = cells.map(|((_, metric), width)| format!("{:<width$}", figure(metrics, metric)));
                cells.collect::<Vec<_>>().join(" | ")
            },
        );
        format!("{text:<width$}", width = self.view_width())
    }
}

/// Five decimals, as the vendor prints.
fn figure(metrics: &Metrics, metric: &str) -> String {
    match figure_of(metrics, metric) {
        Some(x) if x.is_finite() => format!("{x:.5}"),
        Some(x) => x.to_string(),
        None => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::{on_device, sample};

    fn written(report: &Report, txt_style: TxtStyle) -> String {
        let options = Options {
            txt_style,
            ..Options::default()
        };
        Txt.write(report, &options)
    }

    #[test]
    fn the_sample_is_written_in_both_styles() {
        insta::assert_snapshot!("txt_2", written(&sample(), TxtStyle::V2));
        insta::assert_snapshot!("txt_2_on_device", written(&on_device(), TxtStyle::V2));
        insta::assert_snapshot!("txt_1_3_on_device", written(&on_device(), TxtStyle::V1_3));
    }

    #[test]
    fn long_distances_do_not_collide() {
        let mut report = sample();
        report.layers[0].views.entire.get_mut("euclidean").unwrap().value = 123_456_789.0;
        let text = written(&report, TxtStyle::V2);
        let row = text.lines().find(|line| line.starts_with("[Input]")).unwrap();
        let fields: Vec<_> = row.split_whitespace().collect();
        assert_eq!(
            &fields[2..6],
            ["1.00000", "|", "123456789.00000", "1.00000"],
            "{row}"
        );
    }
}
