//! How long a network takes on this machine and what it holds: the measuring behind `qloupe bench`.
//!
//! Each measured thing is a small function that does one pass and tells its time. [`measure`] interleaves the passes, so
//! that what is compared was measured in the same moments.

mod made_up;
mod table;

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use qloupe_exec::{ExecError, QuantizedProgram, Replay, Tapped, Unit, Value, in_pool};
use qloupe_ir::Graph;
use qloupe_kernels::min_max;
use qloupe_tensor::Tensor;

pub use made_up::{input_shapes, make_inputs, make_one_sample};
pub use table::Bench;

use crate::Error;
use crate::prepare::{Network, Prepared};

/// Inputs by name.
type Inputs = [(String, Tensor)];

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// The golden float program.
    Float(&'a Network),
    /// What a target computes under a plan.
    Quantized {
        /// The network, for messages.
        network: &'a Network,
        /// The graph that the target executes.
        prepared: &'a Prepared,
        /// Its program.
        program: &'a QuantizedProgram,
    },
}

/// How often, and what beside the plain run.
#[derive(Clone, Copy, Debug)]
pub struct BenchOptions {
    /// Runs that are not timed.
    pub n_warmup: usize,
    /// Timed runs, at least 1.
    pub n_runs: usize,
    /// A run in which every intermediate value is handed to the caller.
    pub observe: bool,
    /// The time of every node (float) or unit (quantized) within a run.
    pub profile: bool,
    /// Every node (float) or unit (quantized) executed alone.
    pub units: bool,
}

/// The times of several runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Latency {
    /// The fastest.
    pub min_ms: f64,
    /// The one in the middle.
    pub median_ms: f64,
}

/// The time of a node or unit.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeTime {
    /// The node's name; the first one's of a unit.
    pub name: String,
    /// The operator; those of a unit joined by `+`.
    pub op_type: String,
    /// The integer kernel of a unit, or `float` where it has none; nothing in a float run.
    pub kernel: Option<&'static str>,
    /// The shortest of the runs.
    pub ms: f64,
    /// Bytes of the outputs.
    pub bytes: usize,
    /// The part of the sum of all, 0 to 1.
    pub share: f64,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The plain run, from inputs to outputs.
    pub latency: Latency,
    /// The run that hands over every intermediate value.
    pub observed: Option<Latency>,
    /// Each node or unit within a run, in execution order.
    pub nodes: Option<Vec<NodeTime>>,
    /// Each node or unit alone, in execution order.
    pub units: Option<Vec<NodeTime>>,
    /// The most bytes of activations alive at once.
    pub peak_bytes: usize,
    /// The most memory that the process held up to the end of the warm-up, where the system tells it.
    pub rss_peak_bytes: Option<u64>,
}

/// Measures a subject on the same inputs again and again. `progress` is told after every pass how many are done, of how
/// many.
///
/// # Errors
/// A run that fails.
pub fn measure(
    subject: Subject<'_>,
    inputs: &Inputs,
    options: BenchOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Measurement, Error> {
    let measured = measure_passes(subject, inputs, options, progress);
    measured.map_err(|e| subject.network().located(e))
}

fn measure_passes(
    subject: Subject<'_>,
    inputs: &Inputs,
    options: BenchOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Measurement, ExecError> {
    let total = options.n_warmup + options.n_runs;
    let peak_bytes = subject.peak_bytes(inputs)?;
    for done in 1..=options.n_warmup {
        subject.plain_ms(inputs)?;
        progress(done, total);
    }
    // What follows holds more than a plain run does.
    let rss_peak_bytes = rss_peak_bytes();
    let mut replay = options.units.then(|| subject.replay(inputs)).transpose()?;
    let (mut plain, mut observed) = (Vec::new(), Vec::new());
    let (mut nodes, mut units) = (Vec::new(), Vec::new());
    for done in 1..=options.n_runs {
        plain.push(subject.plain_ms(inputs)?);
        if options.observe {
            observed.push(subject.observed_ms(inputs, &mut |_, value| {
                black_box(value);
            })?);
        }
        if options.profile {
            keep_shortest(&mut nodes, subject.step_times(inputs)?);
        }
        if let Some(replay) = &mut replay {
            keep_shortest(&mut units, unit_times(replay)?);
        }
        progress(options.n_warmup + done, total);
    }
    Ok(Measurement {
        latency: latency(plain),
        observed: options.observe.then(|| latency(observed)),
        nodes: options.profile.then(|| named(subject, &nodes)),
        units: options.units.then(|| named(subject, &units)),
        peak_bytes,
        rss_peak_bytes,
    })
}

/// A step of a run and its time.
struct Step {
    node_idxs: Vec<usize>,
    ms: f64,
    bytes: usize,
}

impl<'a> Subject<'a> {
    fn network(self) -> &'a Network {
        match self {
            Self::Float(network) | Self::Quantized { network, .. } => network,
        }
    }

    /// The graph that runs.
    fn graph(self) -> &'a Graph {
        match self {
            Self::Float(network) => network.program.graph(),
            Self::Quantized { prepared, .. } => prepared.program.graph(),
        }
    }

    /// A run from inputs to outputs. Nothing else is timed.
    fn plain_ms(self, inputs: &Inputs) -> Result<f64, ExecError> {
        match self {
            Self::Float(network) => {
                let given = inputs.to_vec();
                let start = Instant::now();
                black_box(network.program.run(given)?);
                Ok(ms_since(start))
            }
            Self::Quantized { program, .. } => {
                let start = Instant::now();
                black_box(program.run(inputs)?);
                Ok(ms_since(start))
            }
        }
    }

    /// A run in which every result is looked at: all elements of float values for their range, piece by piece while they
    /// are in the cache; in a quantized run each value is handed over as it is stored, before the next unit runs.
    fn observed_ms(self, inputs: &Inputs, seen: &mut dyn FnMut(&str, &Value)) -> Result<f64, ExecError> {
        match self {
            Self::Float(network) => {
                let (given, goals) = (given(inputs), outputs(network.program.graph()));
                let watch = |value: usize, elements: &[f32]| {
                    black_box((value, min_max(elements)));
                };
                let start = Instant::now();
                in_pool(|| {
                    let tapped = Tapped::Watched(&watch);
                    let mut walk = network.program.walk_tapped(given, &goals, tapped)?;
                    while walk.step()?.is_some() {}
                    for goal in goals {
                        black_box(walk.require(goal)?.to_plain());
                    }
                    Ok::<_, ExecError>(())
                })?;
                Ok(ms_since(start))
            }
            Self::Quantized {
                program, prepared, ..
            } => {
                let goals = outputs(prepared.program.graph());
                let start = Instant::now();
                let mut walk = program.walk(inputs)?;
                while let Some((unit, results)) = walk.step()? {
                    for (name, value) in unit.outputs().iter().zip(&results) {
                        seen(name, value);
                    }
                }
                for goal in goals {
                    black_box(walk.float_value(goal)?.to_plain());
                }
                Ok(ms_since(start))
            }
        }
    }

    /// The most bytes of activations alive at once, of one run.
    fn peak_bytes(self, inputs: &Inputs) -> Result<usize, ExecError> {
        match self {
            Self::Float(network) => {
                let goals = outputs(network.program.graph());
                let mut walk = network.program.walk_tapped(given(inputs), &goals, Tapped::None)?;
                while walk.step()?.is_some() {}
                Ok(walk.peak_bytes())
            }
            Self::Quantized { program, .. } => {
                let mut walk = program.walk(inputs)?;
                while walk.step()?.is_some() {}
                Ok(walk.peak_bytes())
            }
        }
    }

    /// The time of every step of one run.
    fn step_times(self, inputs: &Inputs) -> Result<Vec<Step>, ExecError> {
        let mut steps = Vec::new();
        match self {
            Self::Float(network) => {
                let goals = outputs(network.program.graph());
                let mut walk = network.program.walk_tapped(given(inputs), &goals, Tapped::None)?;
                loop {
                    let start = Instant::now();
                    let Some(stepped) = walk.step()? else { break };
                    steps.push(Step {
                        ms: ms_since(start),
                        node_idxs: stepped.node_idxs().collect(),
                        bytes: size_bytes(stepped.outputs().map(|(_, value)| value)),
                    });
                }
            }
            Self::Quantized { program, .. } => {
                let mut walk = program.walk(inputs)?;
                loop {
                    let start = Instant::now();
                    let Some((unit, results)) = walk.step()? else {
                        break;
                    };
                    steps.push(Step {
                        ms: ms_since(start),
                        node_idxs: unit.node_idxs().to_vec(),
                        bytes: size_bytes(&results),
                    });
                }
            }
        }
        Ok(steps)
    }

    /// The golden values of a run, all of them in memory.
    fn replay(self, inputs: &Inputs) -> Result<Replay<'a>, ExecError> {
        match self {
            Self::Float(network) => Replay::of_float(&network.program, inputs, usize::MAX),
            Self::Quantized { program, .. } => Replay::of_quantized(program, inputs, usize::MAX),
        }
    }

    /// The integer kernel of each unit, by the first of its nodes; `float` where it has none.
    fn kernels(self) -> HashMap<usize, &'static str> {
        match self {
            Self::Float(_) => HashMap::new(),
            Self::Quantized { program, .. } => {
                let kernel = |unit: &Unit| {
                    Some((
                        *unit.node_idxs().first()?,
                        unit.integer_kernel().unwrap_or("float"),
                    ))
                };
                program
                    .units()
                    .iter()
                    .map(AsRef::as_ref)
                    .filter_map(kernel)
                    .collect()
            }
        }
    }
}

/// The time of every step alone on golden values: a node with those that follow it in one kernel call, or a unit.
fn unit_times(replay: &mut Replay<'_>) -> Result<Vec<Step>, ExecError> {
    in_pool(|| {
        let mut steps = Vec::new();
        for (group, node_idxs) in replay.node_idxs().into_iter().enumerate() {
            let start = Instant::now();
            let results = replay.alone(group)?;
            let ms = ms_since(start);
            let bytes = size_bytes(&results);
            steps.push(Step { node_idxs, ms, bytes });
        }
        Ok(steps)
    })
}

fn given(inputs: &Inputs) -> Vec<(String, Value)> {
    let value = |(name, tensor): &(String, Tensor)| (name.clone(), Value::from(tensor.clone()));
    inputs.iter().map(value).collect()
}

fn outputs(graph: &Graph) -> Vec<&str> {
    graph.output_names().collect()
}

fn size_bytes<'v>(values: impl IntoIterator<Item = &'v Value>) -> usize {
    values.into_iter().map(Value::size_bytes).sum()
}

fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn latency(mut ms: Vec<f64>) -> Latency {
    ms.sort_by(f64::total_cmp);
    Latency {
        min_ms: ms.first().copied().unwrap_or(f64::NAN),
        median_ms: ms.get(ms.len() / 2).copied().unwrap_or(f64::NAN),
    }
}

fn keep_shortest(shortest: &mut Vec<Step>, pass: Vec<Step>) {
    if shortest.is_empty() {
        *shortest = pass;
        return;
    }
    for (step, again) in shortest.iter_mut().zip(pass) {
        step.ms = step.ms.min(again.ms);
    }
}

fn named(subject: Subject<'_>, steps: &[Step]) -> Vec<NodeTime> {
    let (graph, kernels) = (subject.graph(), subject.kernels());
    let total_ms: f64 = steps.iter().map(|step| step.ms).sum();
    let of = |step: &Step| {
        let nodes = || step.node_idxs.iter().map(|&idx| &graph.nodes[idx]);
        let op_types: Vec<&str> = nodes().map(|node| node.op_type.as_str()).collect();
        NodeTime {
            name: nodes()
                .next()
                .map_or_else(String::new, |node| node.label().to_owned()),
            op_type: op_types.join("+"),
            kernel: step.node_idxs.first().and_then(|idx| kernels.get(idx).copied()),
            ms: step.ms,
            bytes: step.bytes,
            share: if total_ms > 0.0 { step.ms / total_ms } else { 0.0 },
        }
    };
    steps.iter().map(of).collect()
}

/// `VmHWM` of Linux; other systems do not tell.
fn rss_peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
