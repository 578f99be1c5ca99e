//! How a layer is stored in each report: its precision, scale, zero point and range, and whether it has a row of numbers.

use crate::report::{Layer, ValueRange};

/// Factors nearer to 1 are the rounding of one scale that was computed in two ways.
const ROUNDING: f64 = 1e-6;

/// One property of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Setting {
    /// Why it has no numbers.
    Reason,
    /// The dtype it is stored in.
    Dtype,
    /// The scales.
    Scale,
    /// The zero points.
    ZeroPoint,
    /// The calibrated range.
    Range,
}

impl Setting {
    /// The name of the field in a report.
    pub fn id(self) -> &'static str {
        match self {
            Self::Dtype => "dtype",
            Self::Reason => "reason",
            Self::Scale => "scale",
            Self::ZeroPoint => "zero_point",
            Self::Range => "range",
        }
    }
}

/// A property that is not the same in both reports, in words: what it was, and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// The property.
    pub setting: Setting,
    /// `int8 -> float16`.
    pub words: String,
}

/// A layer whose properties are not the same in both reports.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingsMove {
    /// The layer.
    pub layer: String,
    /// What changed, in the order of [`Setting`].
    pub changes: Vec<SettingChange>,
    /// How much: the largest factor between scales, or between the widths of the ranges, as a power of two; infinite for
    /// another dtype or a row that came or went.
    pub size: f64,
}

/// The layers that changed, the largest change first.
pub(super) fn compare<'r>(pairs: impl Iterator<Item = (&'r Layer, &'r Layer)>) -> Vec<SettingsMove> {
    let mut moves: Vec<SettingsMove> = pairs.filter_map(|(a, b)| compare_layer(a, b)).collect();
    moves.sort_by(|x, y| y.size.total_cmp(&x.size));
    moves
}

fn compare_layer(a: &Layer, b: &Layer) -> Option<SettingsMove> {
    let mut changes = Vec::new();
    let mut size = 0.0;
    let mut add = |setting, words| changes.push(SettingChange { setting, words });
    if a.reason.is_some() != b.reason.is_some() {
        let words = |layer: &Layer| layer.reason.clone().unwrap_or_else(|| "measured".to_owned());
        // Of a row that came or went nothing else is comparable.
        return Some(SettingsMove {
            layer: b.name.clone(),
            changes: vec![SettingChange {
                setting: Setting::Reason,
                words: format!("{} -> {}", words(a), words(b)),
            }],
            size: f64::INFINITY,
        });
    }
    if a.dtype != b.dtype {
        let name = |dtype: &str| {
            if dtype.is_empty() {
                "none".to_owned()
            } else {
                dtype.to_owned()
            }
        };
        add(
            Setting::Dtype,
            format!("{} -> {}", name(&a.dtype), name(&b.dtype)),
        );
        size = f64::INFINITY;
    }
    if let Some((words, factor)) = scale_change(&a.scale, &b.scale) {
        add(Setting::Scale, words);
        size = f64::max(size, factor);
    }
    if a.zero_point != b.zero_point && a.zero_point.len() == b.zero_point.len() {
        add(Setting::ZeroPoint, zero_point_words(&a.zero_point, &b.zero_point));
    }
    if let Some((words, factor)) = range_change(a.range, b.range) {
        add(Setting::Range, words);
        size = f64::max(size, factor);
    }
    (!changes.is_empty()).then(|| SettingsMove {
        layer: b.name.clone(),
        changes,
        size,
    })
}

/// What became of the scales, and the largest factor between them as a power of two.
fn scale_change(a: &[f32], b: &[f32]) -> Option<(String, f64)> {
    if a.len() != b.len() {
        let count = |scales: &[f32]| match scales {
            [] => "none".to_owned(),
            [scale] => scale.to_string(),
            scales => format!("{} scales", scales.len()),
        };
        return Some((format!("{} -> {}", count(a), count(b)), 0.0));
    }
    let changed: Vec<f64> = a
        .iter()
        .zip(b)
        .map(|(a, b)| f64::from(*b) / f64::from(*a))
        // NaN, of a scale that is none, is a change.
        .filter(|factor| factor.is_nan() || (factor - 1.0).abs() >= ROUNDING)
        .collect();
    let size = changed.iter().map(|factor| factor.log2().abs());
    let size = size.filter(|size| !size.is_nan()).fold(0.0, f64::max);
    match (changed.as_slice(), a) {
        ([], _) => None,
        ([factor], [only]) => Some((format!("{only} -> {} (x{factor:.3})", b[0]), size)),
        (factors, _) => {
            let least = factors.iter().copied().fold(f64::INFINITY, f64::min);
            let most = factors.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let words = format!(
                "{} of {} scales, x{least:.3} to x{most:.3}",
                factors.len(),
                a.len()
            );
            Some((words, size))
        }
    }
}

fn zero_point_words(a: &[i32], b: &[i32]) -> String {
    match (a, b) {
        ([a], [b]) => format!("{a} -> {b}"),
        _ => {
            let n_changed = a.iter().zip(b).filter(|(a, b)| a != b).count();
            format!("{n_changed} of {} zero points", a.len())
        }
    }
}

/// What became of the range, and the factor between the widths as a power of two.
fn range_change(a: Option<ValueRange>, b: Option<ValueRange>) -> Option<(String, f64)> {
    if a == b {
        return None;
    }
    let words = |range: Option<ValueRange>| {
        range.map_or_else(|| "none".to_owned(), |r| format!("{:.4}..{:.4}", r.min, r.max))
    };
    let width = |range: Option<ValueRange>| range.map_or(f64::NAN, |r| r.max - r.min);
    let size = (width(b) / width(a)).log2().abs();
    // Ranges that differ beyond the digits of a table are told apart by the scale.
    let text = format!("{} -> {}", words(a), words(b));
    (words(a) != words(b)).then_some((text, if size.is_finite() { size } else { 0.0 }))
}
