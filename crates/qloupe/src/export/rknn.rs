//! `rknn`: ranges and precisions of a plan in the vendor's `.quantization.cfg`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use qloupe_exec::Form;
use qloupe_tensor::{DType, QuantParams, Range, params_from_range};
use serde_json::json;

use super::{ExportFormat, ExportOption, Exported, Request};
use crate::Error;
use crate::plan::{Precision, ValuePlan};
use crate::ranges::names::original;
use crate::ranges::places::Places;
use crate::ranges::rknn::INT8;
use crate::ranges::{known_values, read_text};
use crate::rknn_cfg::{Entry, RknnCfg};
use crate::units::{is_state, unit_outputs, unit_support};
use crate::write::write_atomically;

/// What the vendor calls the types that it can raise a layer to.
const FLOAT16: &str = "float16";
const INT16: &str = "int16";

/// `min` and `max` of int8 tensors, and `custom_quantize_layers`: what step 2 of the vendor's hybrid quantization lets a
/// file change. It computes scale and zero point from `min` and `max` by the rule of this target, and keeps its weights.
pub(super) struct Rknn;

impl ExportFormat for Rknn {
    fn id(&self) -> &'static str {
        "rknn"
    }

    fn title(&self) -> &'static str {
        "the .quantization.cfg of step 1 of rknn-toolkit2's hybrid quantization, with the ranges and precisions of the plan"
    }

    fn needs(&self) -> &'static [ExportOption] {
        &[ExportOption::Cfg]
    }

    fn default_output(&self, request: &Request<'_>) -> PathBuf {
        request.cfg.unwrap_or(request.model).with_extension("qloupe.cfg")
    }

    fn export(&self, request: &Request<'_>, output: &Path) -> Result<Exported, Error> {
        request.require_rockchip()?;
        let path = request.cfg.expect("invariant: --cfg was checked");
        let text = read_text(path)?;
        let wrong = |what| Error::File {
            path: path.to_owned(),
            what,
        };
        let cfg = RknnCfg::parse(&text).map_err(wrong)?;
        let merge = Merge::new(request, &cfg)?;
        let (text, outcome) = merge.write().map_err(wrong)?;
        write_atomically(output, text.as_bytes())?;
        Ok(outcome.exported(output))
    }
}

/// A file and a plan, matched.
struct Merge<'a> {
    request: &'a Request<'a>,
    cfg: &'a RknnCfg<'a>,
    ranges: BTreeMap<&'a str, Range>,
    /// Values that the user, not the target, keeps out of int8.
    raised: BTreeMap<String, &'static str>,
    /// What each entry and each layer of the file is.
    entries: Vec<Place>,
    layers: Vec<Place>,
}

/// What a name of the file is.
enum Place {
    /// A value of the plan, or one that a unit hides: its output.
    Planned(String),
    /// A constant of the model, or a value that nothing needs.
    Unplanned,
    /// None of the model's names: the converter made it.
    Unknown,
}

#[derive(Default)]
struct Outcome {
    n_ranges: usize,
    n_bounds_kept: usize,
    layers: BTreeMap<String, &'static str>,
    layers_removed: Vec<String>,
    unmatched_entries: Vec<String>,
    values_without_entry: Vec<String>,
}

impl<'a> Merge<'a> {
    fn new(request: &'a Request<'a>, cfg: &'a RknnCfg<'a>) -> Result<Self, Error> {
        let graphs = [
            &request.session.network.model.graph,
            &request.prepared.model.graph,
        ];
        let mut known: BTreeSet<&str> = known_values(&graphs).into_iter().collect();
        known.extend(
            graphs
                .iter()
                .flat_map(|graph| &graph.initializers)
                .map(|constant| constant.name.as_str()),
        );
        let places = Places::new(request.prepared);
        let place = |name: &str| match original(name, &known) {
            Some((value, _)) if places.is_planned(value) => Place::Planned(value.to_owned()),
            Some((value, _)) => places
                .output_of(value)
                .map_or(Place::Unplanned, |output| Place::Planned(output.to_owned())),
            None => Place::Unknown,
        };
        let own = cfg.entries.iter().rev().filter_map(|entry| {
            let (value, _) = original(&entry.name, &known)?;
            places.is_planned(value).then_some((value, entry))
        });
        let own: BTreeMap<&str, &Entry> = own.collect();
        // Where the file has a hidden value and its unit's output, a converter that fuses them gives both one range.
        let entry_place = |entry: &Entry| {
            let value = original(&entry.name, &known).map(|(value, _)| value);
            match place(&entry.name) {
                Place::Planned(output)
                    if value != Some(output.as_str())
                        && own
                            .get(output.as_str())
                            .is_some_and(|own| !have_one_range(entry, own)) =>
                {
                    Place::Unplanned
                }
                place => place,
            }
        };
        let forms = request.plan.forms();
        let mut ranges = BTreeMap::new();
        for value in &request.plan.values {
            if let Some(range) = range_of(value, request)? {
                ranges.insert(value.name.as_str(), range);
            }
        }
        Ok(Self {
            request,
            cfg,
            ranges,
            raised: raised(request, &forms),
            entries: cfg.entries.iter().map(entry_place).collect(),
            layers: cfg.layers.iter().map(|layer| place(&layer.name)).collect(),
        })
    }

    fn write(&self) -> Result<(String, Outcome), String> {
        let mut edit = self.cfg.edit();
        let mut outcome = Outcome::default();
        let mut met: BTreeSet<&str> = BTreeSet::new();
        for (entry, place) in self.cfg.entries.iter().zip(&self.entries) {
            let bounds = entry.range()?;
            let is_int8 = entry.dtype == INT8;
            if matches!(place, Place::Unknown) && is_int8 {
                outcome.unmatched_entries.push(entry.name.clone());
            }
            let Place::Planned(value) = place else { continue };
            met.insert(value);
            if let (Some(range), Some(_), true) = (self.ranges.get(value.as_str()), bounds, is_int8) {
                let (range, n_kept) = with_moved_bounds(entry, *range);
                edit.set_range(entry, range);
                outcome.n_ranges += 1;
                outcome.n_bounds_kept += n_kept;
            }
            if let Some(dtype) = self
                .raised
                .get(value)
                .filter(|_| is_int8 || entry.dtype.starts_with("float"))
            {
                edit.set_layer(&entry.name, dtype);
                outcome.layers.insert(entry.name.clone(), dtype);
            }
        }
        for (layer, place) in self.cfg.layers.iter().zip(&self.layers) {
            match place {
                Place::Planned(value) if !self.raised.contains_key(value) && self.is_int8(value) => {
                    edit.remove_layer(layer);
                    outcome.layers_removed.push(layer.name.clone());
                }
                Place::Unknown if !outcome.unmatched_entries.contains(&layer.name) => {
                    outcome.unmatched_entries.push(layer.name.clone());
                }
                _ => {}
            }
        }
        let values = self.request.plan.values.iter().map(|value| value.name.as_str());
        let missing = values.filter(|name| !met.contains(name));
        outcome.values_without_entry = missing.map(str::to_owned).collect();
        Ok((edit.finish(), outcome))
    }

    fn is_int8(&self, value: &str) -> bool {
        let planned = self.request.plan.value(value).map(|value| &value.precision);
        matches!(planned, Some(Precision::Quantized(_) | Precision::SharedWith(_)))
    }
}

/// The range that the scale and zero point of a value stand for: as calibrated where they are of it, else that of its
/// integers.
fn range_of(value: &ValuePlan, request: &Request<'_>) -> Result<Option<Range>, Error> {
    let Precision::Quantized(params) = &value.precision else {
        return Ok(value.range);
    };
    let scheme = request
        .prepared
        .target
        .activation
        .filter(|scheme| scheme.dtype == params.dtype());
    let calibrated = match (value.range, scheme) {
        (Some(range), Some(scheme)) if params_from_range(&[range], &scheme)?.0 == *params => Some(range),
        _ => None,
    };
    Ok(calibrated.or_else(|| range_of_integers(params)))
}

fn range_of_integers(params: &QuantParams) -> Option<Range> {
    let (scale, zero_point) = params.as_per_tensor()?;
    let (least, most) = params.dtype().integer_range()?;
    let real = |q: i64| (q - i64::from(zero_point)) as f32 * scale;
    Some(Range {
        min: real(least),
        max: real(most),
    })
}

/// True for two entries whose ranges are the same within a thousandth.
fn have_one_range(a: &Entry, b: &Entry) -> bool {
    const TOLERANCE: f32 = 1e-3;
    let (Ok(Some((a_min, a_max))), Ok(Some((b_min, b_max)))) = (a.range(), b.range()) else {
        return false;
    };
    let width = (b_max.value - b_min.value).abs() * TOLERANCE;
    (a_min.value - b_min.value).abs() <= width && (a_max.value - b_max.value).abs() <= width
}

/// A range with the bounds that the converter moved, and how many: it tightens those that the Relu, Clip or Sigmoid behind
/// cuts, and widens those of values that share a scale with another.
fn with_moved_bounds(entry: &Entry, range: Range) -> (Range, usize) {
    /// More than what float32 leaves of a bound on its way through the file.
    const WIDENED: f32 = 1e-2;
    let only = |numbers: &[crate::rknn_cfg::Number]| match numbers {
        [number] => Some(number.value),
        _ => None,
    };
    let mut bounded = range;
    let mut n_kept = 0;
    if let (Some(min), Some(before)) = (only(&entry.min), only(&entry.ori_min))
        && min > before
        && range.min < min
        && min <= range.max
    {
        bounded.min = min;
        n_kept += 1;
    }
    if let (Some(max), Some(before)) = (only(&entry.max), only(&entry.ori_max))
        && max < before
        && range.max > max
        && max >= bounded.min
    {
        bounded.max = max;
        n_kept += 1;
    }
    let sides = [
        (&entry.min, &entry.ori_min, &mut bounded.min, -1.0),
        (&entry.max, &entry.ori_max, &mut bounded.max, 1.0),
    ];
    for (now, before, bound, outwards) in sides {
        if let (Some(now), Some(before)) = (only(now), only(before))
            && (now - before) * outwards > now.abs() * WIDENED
            && (now - *bound) * outwards > 0.0
        {
            *bound = now;
            n_kept += 1;
        }
    }
    (bounded, n_kept)
}

/// Outputs of units that the target could compute in int8 and the plan does not. What the target falls back on is left
/// to the converter, which knows its device.
fn raised(request: &Request<'_>, forms: &BTreeMap<String, Form>) -> BTreeMap<String, &'static str> {
    let prepared = request.prepared;
    let mut raised = BTreeMap::new();
    for unit in &prepared.units {
        if !unit_support(unit, &prepared.program, prepared.target).is_integer() {
            continue;
        }
        let node = &prepared.program.graph().nodes[unit.main_idx];
        let is_float = |name: &String| forms.get(name).is_some_and(|form| form.params().is_none());
        // A Concat of values that the target computes in float is float for that reason.
        let joins_floats = node.is_onnx("Concat")
            && node
                .inputs
                .iter()
                .all(|name| is_float(name) && !raised.contains_key(name));
        for name in unit_outputs(&prepared.program, &prepared.topology, unit) {
            let dtype = match forms.get(name) {
                _ if is_state(unit, &prepared.program, name) || joins_floats => None,
                Some(Form::Fp16 { .. } | Form::Float { .. }) => Some(FLOAT16),
                Some(Form::Quantized(params)) if params.dtype() == DType::Int16 => Some(INT16),
                _ => None,
            };
            if let Some(dtype) = dtype {
                raised.insert(name.to_owned(), dtype);
            }
        }
    }
    raised
}

impl Outcome {
    fn exported(self, output: &Path) -> Exported {
        let mut lines = vec![format!(
            "{} ranges written; weights stay the converter's",
            self.n_ranges
        )];
        if self.n_bounds_kept > 0 {
            lines.push(format!(
                "{} bounds that the converter moved are kept",
                self.n_bounds_kept
            ));
        }
        let layers: Vec<String> = self
            .layers
            .iter()
            .map(|(name, dtype)| format!("{name} {dtype}"))
            .collect();
        let lists = [
            (&layers, "layers are raised"),
            (&self.layers_removed, "layers are int8 again, as in the plan"),
            (
                &self.unmatched_entries,
                "names of the cfg are of no value of the model and stay as they are",
            ),
            (
                &self.values_without_entry,
                "values of the plan have no entry in the cfg",
            ),
        ];
        lines.extend(
            lists
                .into_iter()
                .filter(|(names, _)| !names.is_empty())
                .map(|(names, what)| format!("{} {what}: {}", names.len(), names.join(", "))),
        );
        Exported {
            files: vec![output.to_owned()],
            lines,
            fields: vec![
                ("n_ranges", json!(self.n_ranges)),
                ("n_bounds_kept", json!(self.n_bounds_kept)),
                ("layers", json!(self.layers)),
                ("layers_removed", json!(self.layers_removed)),
                ("unmatched_entries", json!(self.unmatched_entries)),
                ("values_without_entry", json!(self.values_without_entry)),
            ],
        }
    }
}
