//! The closing table: what float32, float16 and int8 cost in bytes and in time on this CPU.

use std::time::Instant;

use qloupe_exec::{ExecError, Mode, Stored, Tapped};
use qloupe_ir::Model;
use qloupe_tensor::Tensor;

use crate::Error;
use crate::mixed_fp16::convert_by_plan;
use crate::passes::convert_fp16::convert_fp16;
use crate::plan::{QuantPlan, weight_only_word};
use crate::prepare::{Network, Prepared};
use crate::qdq::export_qdq;
use crate::report::Cost;

/// What the measurement may take.
#[derive(Clone, Copy, Debug)]
pub struct CostOptions {
    /// Timed runs of each precision, after one that is not timed.
    pub n_runs: usize,
}

/// What each precision costs; `inputs` is one sample.
///
/// # Errors
/// A run that fails.
pub fn measure_costs(
    network: &Network,
    prepared: &Prepared,
    plan: &QuantPlan,
    inputs: &[(String, Tensor)],
    options: CostOptions,
) -> Result<Vec<Cost>, Error> {
    let device = cpu_name();
    let float = time(options, || run_float(network, inputs)).map_err(|e| network.located(e))?;
    let float_bytes = weight_bytes(&network.model);
    let mut costs = vec![Cost {
        precision: "float32".to_owned(),
        file_size_bytes: std::fs::metadata(&network.file).ok().map(|m| m.len()),
        weight_bytes: Some(float_bytes),
        peak_activation_bytes: Some(float.peak_bytes),
        latency_ms: Some(float.latency_ms),
        device: Some(device.clone()),
        reason: None,
    }];
    let half = convert_fp16(&prepared.model);
    costs.push(Cost {
        precision: "float16".to_owned(),
        file_size_bytes: half.as_ref().ok().and_then(file_size),
        weight_bytes: Some(float_bytes / 2),
        peak_activation_bytes: Some(float.peak_bytes / 2),
        latency_ms: None,
        device: None,
        reason: Some(match half {
            Ok(_) => "float16 is simulated: no time on this CPU".to_owned(),
            Err(error) => error.to_string(),
        }),
    });
    if let Some((dtype, _)) = plan.weight_only() {
        let model = convert_by_plan(&network.file, prepared, plan)?;
        costs.push(Cost {
            precision: weight_only_word(dtype).unwrap_or("float16").to_owned(),
            file_size_bytes: file_size(&model),
            weight_bytes: Some(weight_bytes(&model)),
            peak_activation_bytes: Some(float.peak_bytes / 2),
            latency_ms: None,
            device: None,
            reason: Some("float16 is simulated: no time on this CPU".to_owned()),
        });
    }
    if !prepared.target.keeps_values_float() {
        let program = prepared.quantized(network, plan, Mode::Integer)?;
        let run = || -> Result<usize, ExecError> {
            let mut walk = program.walk(inputs)?;
            while walk.step()?.is_some() {}
            Ok(walk.peak_bytes())
        };
        let integer = time(options, run).map_err(|e| network.located(e))?;
        let (file_size_bytes, weight_bytes) = match &prepared.stored {
            Some(stored) => (stored.file_size_bytes, stored.weight_bytes),
            None => {
                let model = export_qdq(prepared, plan)?;
                (file_size(&model), weight_bytes(&model))
            }
        };
        costs.push(Cost {
            precision: "int8".to_owned(),
            file_size_bytes,
            weight_bytes: Some(weight_bytes),
            peak_activation_bytes: Some(integer.peak_bytes),
            latency_ms: Some(integer.latency_ms),
            device: Some(device),
            reason: None,
        });
    }
    Ok(costs)
}

struct Timed {
    peak_bytes: u64,
    latency_ms: f64,
}

/// The median of the runs.
fn time(options: CostOptions, run: impl Fn() -> Result<usize, ExecError>) -> Result<Timed, ExecError> {
    let peak_bytes = run()? as u64;
    let mut seconds = Vec::with_capacity(options.n_runs);
    for _ in 0..options.n_runs.max(1) {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Timed {
        peak_bytes,
        latency_ms: seconds[seconds.len() / 2] * 1e3,
    })
}

fn run_float(network: &Network, inputs: &[(String, Tensor)]) -> Result<usize, ExecError> {
    let given = inputs
        .iter()
        .map(|(n, t)| (n.clone(), Stored::plain(t.clone())))
        .collect();
    let goals: Vec<&str> = network.model.graph.output_names().collect();
    let mut walk = network.program.walk_tapped(given, &goals, Tapped::None)?;
    while walk.step()?.is_some() {}
    Ok(walk.peak_bytes())
}

fn file_size(model: &Model) -> Option<u64> {
    Some(qloupe_onnx::model_to_bytes(model).ok()?.len() as u64)
}

/// Bytes of all stored tensors.
fn weight_bytes(model: &Model) -> u64 {
    model
        .graph
        .constants()
        .values()
        .map(|c| c.dtype().size_bytes(c.len()).unwrap_or(0) as u64)
        .sum()
}

/// The name of this CPU, as the system tells it.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let threads = rayon::current_num_threads();
    let plural = if threads == 1 { "" } else { "s" };
    name.map_or_else(
        || "this CPU".to_owned(),
        |(_, name)| format!("{}, {threads} thread{plural}", name.trim()),
    )
}
