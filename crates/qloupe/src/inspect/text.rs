//! An inspection as aligned text.

use super::{
    Compute, HazardKind, Inspection, MAX_SPREAD, OperatorLine, Placement, Quantization, ValueLine,
    WeightHazard, open_dims, shape_hint,
};
use crate::prequantized::Summary;

/// Rows of a list that are shown before "and more".
const MAX_ROWS: usize = 12;

/// Longer expressions of open dimensions are not shown.
const MAX_DIM: usize = 12;

/// Nodes of a line that are shown before "and more".
const MAX_NAMES: usize = 3;

/// The inspection as text, for a terminal.
pub fn format_text(inspection: &Inspection) -> String {
    let sections = [
        header(inspection),
        interface(inspection),
        unsupported(inspection),
        operators(inspection),
        inspection
            .quantization
            .as_ref()
            .map_or_else(Vec::new, quantization),
        inspection
            .placement
            .as_ref()
            .map_or_else(Vec::new, |p| placement(p, inspection.uncounted.is_empty())),
        hazards(&inspection.hazards),
        findings(inspection),
    ];
    let texts: Vec<String> = sections
        .into_iter()
        .filter(|s| !s.is_empty())
        .map(|s| s.join("\n"))
        .collect();
    texts.join("\n\n") + "\n"
}

fn header(i: &Inspection) -> Vec<String> {
    let opsets: Vec<String> = i
        .opsets
        .iter()
        .map(|(domain, version)| format!("{domain} {version}"))
        .collect();
    let mut facts = Vec::new();
    facts.extend(i.file_size_bytes.map(|size| format!("{}B", quantity(size))));
    facts.push(format!("ir {}", i.ir_version));
    facts.push(format!("opset {}", opsets.join(", ")));
    if !i.producer.is_empty() {
        facts.push(format!("from {}", i.producer));
    }
    let stored = u64::try_from(i.weight_size_bytes).unwrap_or(u64::MAX);
    let n_parameters = u64::try_from(i.n_parameters).unwrap_or(u64::MAX);
    let cost = format!(
        "{} nodes, {} parameters, {}B stored, {} MACs ({}FLOPs) at batch 1",
        i.n_nodes,
        quantity(n_parameters).trim_end(),
        quantity(stored),
        quantity(i.macs).trim_end(),
        quantity(i.macs.saturating_mul(2))
    );
    let mut lines = vec![
        i.file.clone(),
        format!("  {}", facts.join(", ")),
        format!("  {cost}"),
    ];
    let open: Vec<String> = open_dims(i).into_iter().collect();
    if !i.uncounted.is_empty() {
        let why = match (open.is_empty(), shape_hint(i)) {
            (false, Some(hint)) => format!("{} open: give {hint}", are(&open)),
            _ => "their shapes are not known before they run".to_owned(),
        };
        lines.push(format!(
            "  MACs of {} not counted: {why}",
            count(i.uncounted.len(), "node")
        ));
    }
    lines
}

fn interface(i: &Inspection) -> Vec<String> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for input in &i.inputs {
        let v = &input.value;
        rows.push(vec![
            "input".to_owned(),
            v.name.clone(),
            v.dtype.clone(),
            shape(v),
            input.feed.clone(),
        ]);
    }
    for v in &i.outputs {
        rows.push(vec![
            "output".to_owned(),
            v.name.clone(),
            v.dtype.clone(),
            shape(v),
        ]);
    }
    align(&rows, &[])
}

/// `[N, 3, h, w]`; a long expression is `?`.
fn shape(value: &ValueLine) -> String {
    let Some(dims) = &value.shape else {
        return "[..]".to_owned();
    };
    let short = |dim: &String| {
        if dim.len() > MAX_DIM {
            "?".to_owned()
        } else {
            dim.clone()
        }
    };
    format!("[{}]", dims.iter().map(short).collect::<Vec<_>>().join(", "))
}

fn unsupported(i: &Inspection) -> Vec<String> {
    if i.unsupported.is_empty() {
        return Vec::new();
    }
    let rows: Vec<Vec<String>> = i
        .unsupported
        .iter()
        .map(|(op, nodes)| vec![format!("  {op}"), nodes.len().to_string(), some(nodes)])
        .collect();
    let mut lines = vec![format!(
        "cannot run: {} unsupported",
        count(i.unsupported.len(), "operator")
    )];
    lines.extend(align(&rows, &[1]));
    lines
}

fn operators(i: &Inspection) -> Vec<String> {
    let target = i.operators.iter().any(|line| !line.compute.is_empty());
    let mut rows = vec![vec![
        "operator".to_owned(),
        "count".to_owned(),
        "MACs".to_owned(),
        "share".to_owned(),
    ]];
    if target {
        rows[0].push("computes in".to_owned());
    }
    for line in &i.operators {
        let macs = line
            .macs
            .map_or_else(String::new, |macs| quantity(macs).trim_end().to_owned());
        let share = line.macs.filter(|_| i.uncounted.is_empty());
        let share = share.map_or_else(String::new, |macs| percent(macs, i.macs));
        rows.push(vec![
            line.op.clone(),
            line.count.to_string(),
            macs,
            share,
            computes(line),
        ]);
    }
    let mut lines = align(&rows, &[1, 2, 3]);
    let is_partial = |line: &OperatorLine| line.compute.values().sum::<usize>() < line.count;
    if target && i.operators.iter().any(is_partial) {
        lines.push("(nodes without an entry compute shapes, work on constants or are folded)".to_owned());
    }
    lines
}

fn computes(line: &OperatorLine) -> String {
    let all = line.compute.len() == 1;
    let part = |(compute, n): (&Compute, &usize)| match all && *n == line.count {
        true => compute.name().to_owned(),
        false => format!("{} ({n} of {})", compute.name(), line.count),
    };
    line.compute.iter().map(part).collect::<Vec<_>>().join(", ")
}

fn quantization(q: &Quantization) -> Vec<String> {
    let counts = [
        ("products", &q.summary.units),
        ("values", &q.summary.values),
        ("weights", &q.summary.weights),
    ];
    let rows: Vec<Vec<String>> = counts
        .into_iter()
        .filter(|(_, counts)| !counts.is_empty())
        .map(|(name, counts)| vec![format!("  {name}"), Summary::counts(counts)])
        .collect();
    let mut lines = vec![format!("quantized already: {}", q.summary.schemes.join(", "))];
    lines.extend(align(&rows, &[]));
    for finding in &q.findings {
        lines.push(format!(
            "  {}: {} [{}]",
            finding.severity.name(),
            finding.cause,
            finding.id
        ));
        lines.push(format!("    {}", finding.evidence));
        lines.push(format!("    {}", finding.fix));
    }
    lines
}

fn placement(p: &Placement, is_counted: bool) -> Vec<String> {
    let mut lines = vec![match p.note {
        Some(note) => format!("on {} ({note})", p.target),
        None => format!("on {}", p.target),
    }];
    let mut rows = Vec::new();
    for compute in Compute::ALL {
        let (n_units, macs) = p.share(compute);
        if n_units > 0 {
            let share = if p.macs() > 0 && is_counted {
                format!("{} of the MACs", percent(macs, p.macs()))
            } else {
                String::new()
            };
            rows.push(vec![
                format!("  {}", compute.name()),
                count(n_units, "unit"),
                share,
            ]);
        }
    }
    lines.extend(align(&rows, &[1, 2]));
    let has_integers = p.share(Compute::Int8).0 > 0;
    if has_integers {
        lines.extend(fallbacks(p, is_counted));
    }
    if let Some(cut) = &p.cut {
        let ops: Vec<String> = cut.fallbacks.iter().map(|(op, n)| times(op, *n)).collect();
        lines.push(format!(
            "  the last {} {} {}: crop with --crop-outputs {} and post-process on the CPU",
            count(cut.n_units, "unit"),
            if cut.n_units == 1 { "holds" } else { "hold" },
            ops.join(", "),
            cut.outputs.join(",")
        ));
    }
    lines
}

fn fallbacks(p: &Placement, is_counted: bool) -> Vec<String> {
    let mut rows = Vec::new();
    for unit in p.units.iter().filter(|u| u.compute != Compute::Int8) {
        let share = if unit.macs > 0 && is_counted {
            percent(unit.macs, p.macs())
        } else {
            String::new()
        };
        rows.push(vec![
            format!("  {}", unit.compute.name()),
            unit.label.clone(),
            share,
            unit.output.clone(),
        ]);
    }
    let n_more = rows.len().saturating_sub(MAX_ROWS);
    rows.truncate(MAX_ROWS);
    let mut lines = Vec::new();
    if !rows.is_empty() {
        let elements = p
            .cast_elements
            .map(|n| format!(", {} elements", quantity(n).trim_end()));
        let casts = count(p.n_casts, "value");
        lines.push(format!(
            "  {casts} cast between integers and floats{}",
            elements.unwrap_or_default()
        ));
        lines.extend(align(&rows, &[2]));
    }
    if n_more > 0 {
        lines.push(format!("  and {n_more} more"));
    }
    lines
}

fn hazards(hazards: &[WeightHazard]) -> Vec<String> {
    if hazards.is_empty() {
        return Vec::new();
    }
    let is_common = |h: &&WeightHazard| {
        matches!(
            h.kind,
            HazardKind::Spread { .. } | HazardKind::DeadChannels { .. }
        )
    };
    let row = |h: &WeightHazard| {
        vec![
            format!("  {}", h.tensor),
            h.kind.describe(),
            format!("node \"{}\"", h.node),
        ]
    };
    let grave: Vec<&WeightHazard> = hazards.iter().filter(|h| !is_common(h)).collect();
    let rows: Vec<Vec<String>> = grave.iter().take(MAX_ROWS).map(|h| row(h)).collect();
    let mut lines = vec!["weights to watch".to_owned()];
    lines.extend(align(&rows, &[]));
    if grave.len() > MAX_ROWS {
        lines.push(format!("  and {} more", grave.len() - MAX_ROWS));
    }
    let spread = |h: &WeightHazard| {
        if let HazardKind::Spread { ratio } = h.kind {
            Some((ratio, h.tensor.clone()))
        } else {
            None
        }
    };
    let mut spreads: Vec<(f32, String)> = hazards.iter().filter_map(spread).collect();
    spreads.sort_by(|a, b| b.0.total_cmp(&a.0));
    if let Some((ratio, worst)) = spreads.first() {
        let tensors = count(spreads.len(), "weight");
        lines.push(format!("  {tensors} with channel ranges {MAX_SPREAD}x apart or more (\"{worst}\": {ratio:.0}x): needs one scale per channel"));
    }
    let dead = |h: &WeightHazard| {
        if let HazardKind::DeadChannels { count, .. } = h.kind {
            Some((count, h.tensor.clone()))
        } else {
            None
        }
    };
    let dead: Vec<(usize, String)> = hazards.iter().filter_map(dead).collect();
    if !dead.is_empty() {
        let names: Vec<String> = dead.iter().map(|(_, name)| format!("\"{name}\"")).collect();
        let channels = count(dead.iter().map(|(n, _)| n).sum(), "channel");
        lines.push(format!("  {channels} of zeros or nearly, in {}", some(&names)));
    }
    lines
}

fn findings(i: &Inspection) -> Vec<String> {
    if i.findings.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["shapes that do not agree".to_owned()];
    let text =
        |f: &crate::shapes::ShapeFinding| format!("  node \"{}\" ({}), {}", f.node, f.op_type, f.reason);
    lines.extend(i.findings.iter().take(MAX_ROWS).map(text));
    if i.findings.len() > MAX_ROWS {
        lines.push(format!("  and {} more", i.findings.len() - MAX_ROWS));
    }
    lines
}

/// Columns two spaces apart; those listed in `right` are aligned to the right.
fn align(rows: &[Vec<String>], right: &[usize]) -> Vec<String> {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|r| r.get(column))
            .map(|c| c.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..n_columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match right.contains(&column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            })
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// `384 M`, `1.23 G`, `512 `: three digits and a prefix.
#[expect(clippy::as_conversions, reason = "three digits are shown")]
fn quantity(n: u64) -> String {
    let (scale, prefix) = match n {
        0..1_000 => return format!("{n} "),
        1_000..1_000_000 => (1e3, "k"),
        1_000_000..1_000_000_000 => (1e6, "M"),
        1_000_000_000..1_000_000_000_000 => (1e9, "G"),
        _ => (1e12, "T"),
    };
    let value = n as f64 / scale;
    let digits = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.digits$} {prefix}")
}

#[expect(clippy::as_conversions, reason = "one digit behind the point is shown")]
fn percent(part: u64, total: u64) -> String {
    if total == 0 {
        String::new()
    } else {
        format!("{:.1}%", part as f64 * 100.0 / total as f64)
    }
}

fn count(n: usize, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

fn times(name: &str, n: usize) -> String {
    if n == 1 {
        name.to_owned()
    } else {
        format!("{n} x {name}")
    }
}

fn are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

fn some(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(MAX_NAMES)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown,
        n => format!("{shown} and {n} more"),
    }
}
