//! A measurement with what it was taken of, as an aligned table and as JSON.

use qloupe_tensor::Tensor;
use serde_json::{Value, json};

use super::{Latency, Measurement, NodeTime};
use crate::report::grid::{Align, Cell, Grid, printable, shorten};

/// Longer node names are shortened.
const MAX_NAME: usize = 60;

/// A measurement and what it was taken of.
#[derive(Clone, Debug, PartialEq)]
pub struct Bench {
    /// The model file.
    pub model: String,
    /// `float`, `fake-quant`, `fp16` or `integer`.
    pub mode: String,
    /// The instruction set of the kernels.
    pub isa: String,
    /// Threads.
    pub n_threads: usize,
    /// Timed runs.
    pub n_runs: usize,
    /// The inputs: names, dtypes and shapes.
    pub inputs: Vec<(String, String, Vec<usize>)>,
    /// What was measured.
    pub measurement: Measurement,
}

impl Bench {
    /// Name, dtype and shape of tensors.
    pub fn describe(inputs: &[(String, Tensor)]) -> Vec<(String, String, Vec<usize>)> {
        let of = |(name, tensor): &(String, Tensor)| {
            (
                name.clone(),
                tensor.dtype().name().to_owned(),
                tensor.shape().to_vec(),
            )
        };
        inputs.iter().map(of).collect()
    }

    /// The leading dimension of the first input.
    fn batch(&self) -> usize {
        let first = self.inputs.first().and_then(|(_, _, shape)| shape.first());
        first.copied().unwrap_or(1)
    }

    /// The table, for a terminal.
    pub fn to_text(&self) -> String {
        let m = &self.measurement;
        let plural = |n: usize, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
        let mut lines = vec![printable(&format!(
            "{}: {}, {}, {}, batch {}, {}",
            self.model,
            self.mode,
            self.isa,
            plural(self.n_threads, "thread"),
            self.batch(),
            plural(self.n_runs, "run"),
        ))];
        for (name, dtype, shape) in &self.inputs {
            lines.push(printable(&format!("input {name}  {dtype}  {shape:?}, made up")));
        }
        lines.push(String::new());
        let mut grid = Grid::new(vec![Align::Left, Align::Right, Align::Right]);
        grid.push(["time in ms", "min", "median"].map(Cell::plain).to_vec());
        grid.push(latency_row("run", m.latency));
        grid.extend(
            m.observed
                .map(|latency| latency_row("run, every value handed over", latency)),
        );
        let alone = m.units.as_deref().map(sum_ms).map(|sum| format!("{sum:.3}"));
        grid.extend(alone.map(|sum| ["units alone, sum", &sum].map(Cell::plain).to_vec()));
        lines.extend(grid.lines(0, false));
        let rss = m
            .rss_peak_bytes
            .map_or_else(String::new, |rss| format!(", the process {}", megabytes(rss)));
        let activations = megabytes(m.peak_bytes as u64);
        lines.push(format!("\nmemory at most: activations {activations}{rss}"));
        for (title, nodes) in [("within a run", &m.nodes), ("alone", &m.units)] {
            if let Some(nodes) = nodes {
                lines.push(String::new());
                lines.extend(node_grid(title, nodes).lines(0, false));
            }
        }
        lines.join("\n") + "\n"
    }

    /// The same as JSON, nodes in execution order; what was not asked for is absent.
    pub fn to_json(&self) -> Value {
        let m = &self.measurement;
        let input = |(name, dtype, shape): &(String, String, Vec<usize>)| json!({ "name": name, "dtype": dtype, "shape": shape });
        let mut json = json!({
            "model": self.model,
            "mode": self.mode,
            "isa": self.isa,
            "threads": self.n_threads,
            "batch": self.batch(),
            "runs": self.n_runs,
            "inputs": self.inputs.iter().map(input).collect::<Vec<_>>(),
            "latency_ms": latency_json(m.latency),
            "peak_bytes": m.peak_bytes,
            "rss_peak_bytes": m.rss_peak_bytes,
        });
        if let Some(observed) = m.observed {
            json["observed_ms"] = latency_json(observed);
        }
        if let Some(nodes) = &m.nodes {
            json["nodes"] = nodes.iter().map(node_json).collect();
        }
        if let Some(units) = &m.units {
            json["units_ms"] = json!(sum_ms(units));
            json["units"] = units.iter().map(node_json).collect();
        }
        json
    }
}

fn latency_row(name: &str, latency: Latency) -> Vec<Cell> {
    let ms = |ms: f64| Cell::plain(format!("{ms:.3}"));
    vec![Cell::plain(name), ms(latency.min_ms), ms(latency.median_ms)]
}

/// The slowest first.
fn node_grid(title: &str, nodes: &[NodeTime]) -> Grid {
    let has_kernels = nodes.iter().any(|node| node.kernel.is_some());
    let kernel = |text: &str| has_kernels.then(|| Cell::plain(text));
    let mut aligns = vec![Align::Left, Align::Left];
    aligns.extend(has_kernels.then_some(Align::Left));
    aligns.extend([Align::Right; 3]);
    let mut grid = Grid::new(aligns);
    let mut head = vec![Cell::plain(title), Cell::plain("operator")];
    head.extend(kernel("kernel"));
    head.extend(["ms", "share", "output"].map(Cell::plain));
    grid.push(head);
    let mut sorted: Vec<&NodeTime> = nodes.iter().collect();
    sorted.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    for node in sorted {
        let mut row = vec![
            Cell::plain(shorten(&printable(&node.name), MAX_NAME)),
            Cell::plain(shorten(&node.op_type, MAX_NAME)),
        ];
        row.extend(kernel(node.kernel.unwrap_or_default()));
        row.extend([
            Cell::plain(format!("{:.3}", node.ms)),
            Cell::plain(format!("{:.1}%", node.share * 100.0)),
            Cell::plain(megabytes(node.bytes as u64)),
        ]);
        grid.push(row);
    }
    grid
}

fn sum_ms(nodes: &[NodeTime]) -> f64 {
    nodes.iter().map(|node| node.ms).sum()
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn latency_json(latency: Latency) -> Value {
    json!({ "min": latency.min_ms, "median": latency.median_ms })
}

fn node_json(node: &NodeTime) -> Value {
    json!({
        "name": node.name,
        "op_type": node.op_type,
        "kernel": node.kernel,
        "ms": node.ms,
        "bytes": node.bytes,
        "share": node.share,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench() -> Bench {
        let node = |name: &str, ms, bytes| NodeTime {
            name: name.to_owned(),
            op_type: "Relu".to_owned(),
            kernel: None,
            ms,
            bytes,
            share: ms / 4.0,
        };
        let latency = Latency {
            min_ms: 4.0,
            median_ms: 4.5,
        };
        Bench {
            model: "m.onnx".to_owned(),
            mode: "float".to_owned(),
            isa: "scalar".to_owned(),
            n_threads: 1,
            n_runs: 3,
            inputs: Bench::describe(&[("x".to_owned(), Tensor::vector(vec![0.0_f32; 2]))]),
            measurement: Measurement {
                latency,
                observed: None,
                nodes: Some(vec![node("a", 1.0, 8), node("b", 3.0, 2_000_000)]),
                units: None,
                peak_bytes: 16,
                rss_peak_bytes: Some(20_000_000),
            },
        }
    }

    #[test]
    fn the_slowest_node_is_the_first_row() {
        let expected = "\
m.onnx: float, scalar, 1 thread, batch 2, 3 runs
input x  float32  [2], made up

time in ms    min  median
run         4.000   4.500

memory at most: activations 0.00 MB, the process 20.00 MB

within a run  operator     ms  share   output
b             Relu      3.000  75.0%  2.00 MB
a             Relu      1.000  25.0%  0.00 MB
";
        assert_eq!(bench().to_text(), expected);
    }

    #[test]
    fn json_keeps_the_order_and_has_what_was_asked_for() {
        let mut bench = bench();
        let json = bench.to_json();
        assert_eq!(json["nodes"][0]["name"], "a");
        assert_eq!(json["latency_ms"], json!({ "min": 4.0, "median": 4.5 }));
        assert!(
            json.get("observed_ms").is_none() && json.get("units_ms").is_none(),
            "{json}"
        );
        bench.measurement.observed = Some(bench.measurement.latency);
        bench.measurement.units = bench.measurement.nodes.take();
        let json = bench.to_json();
        assert_eq!(json["units_ms"], 4.0);
        assert_eq!(json["observed_ms"]["min"], 4.0);
        assert!(json.get("nodes").is_none(), "{json}");
    }
}
