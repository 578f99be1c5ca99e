//! `absorb_biases`: moves what a channel never goes below from one bias to the biases after it.
//!
//! Equalization can leave channels that are large because of their bias alone, and they set the range of the whole value. Where
//! channel `c` of a product is at least `t[c] > 0` on every tuning sample, `t` is taken away from it before its Relu, and `W t`
//! added behind it (`passes/shift_values.rs`).
//!
//! `t = max(0, min - m)`, where `m` is a part of the range of the channel: an input that goes lower than all samples stays right
//! as long as it goes no further than that. A channel that comes within `m` of the bound of a Clip is left.
//!
//! Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1.3; there `t`
//! comes from the batch norm, here from samples. Only where the next product has no padding, so that nothing changes at borders.

use std::collections::BTreeMap;

use super::Work;
use super::channel_ranges::channel_ranges;
use super::scale_values::judged;
use super::score::Referee;
use crate::Error;
use crate::passes::Shift;
use crate::passes::shift_values::{AXIS, Chain, find_chains};
use crate::plan::Optimized;
use crate::prepare::Prepared;

/// The name of the pass in plans and reports.
pub(super) const PASS: &str = "absorb_biases";

/// The optimization level from which constants move.
const LEVEL: u8 = 2;

/// Samples that nothing was learned from may go beyond the range of a channel by this part of it.
const MARGIN: f32 = 0.1;

/// Moves constants where that helps. Ranges of another tool are those of the original values: with them nothing moves.
pub(super) fn absorb_biases(
    work: &Work<'_>,
    referee: &Referee,
    prepared: Prepared,
    shapes: &BTreeMap<String, Vec<usize>>,
    optimized: &mut Optimized,
) -> Result<Prepared, Error> {
    let options = work.options();
    if options.optimization_level < LEVEL || options.ranges.is_some() {
        return Ok(prepared);
    }
    let chains = find_chains(&prepared.program, &prepared.topology, shapes);
    if chains.is_empty() {
        return Ok(prepared);
    }
    let axes = chains.iter().map(|chain| (chain.values[0].clone(), AXIS));
    let ranges = channel_ranges(work, &prepared.program, &axes.collect())?;
    let shifts: Vec<Shift> = chains.iter().filter_map(|chain| shift(chain, &ranges)).collect();
    if shifts.is_empty() {
        return Ok(prepared);
    }
    let (before, base) = judged(work, referee, prepared)?;
    let (after, trial) = judged(work, referee, base.with_shifts(work.network(), &shifts)?)?;
    let mut record = referee.record(PASS, before, after);
    record.evidence = format!("{}, {} groups of values", record.evidence, shifts.len());
    let kept = record.kept;
    optimized.passes.push(record);
    if kept {
        optimized.shifts = shifts;
    }
    Ok(if kept { trial } else { base })
}

/// What a chain can be less by; `None` where that is nothing.
fn shift(chain: &Chain, ranges: &BTreeMap<String, Vec<[f32; 2]>>) -> Option<Shift> {
    let constant = |&[min, max]: &[f32; 2]| {
        let margin = MARGIN * (max - min);
        let is_bounded = chain.limit.is_some_and(|limit| max + margin > limit);
        // A channel that never changes is `dead_channels`' affair.
        if is_bounded || max <= min {
            0.0
        } else {
            (min - margin).max(0.0)
        }
    };
    let shift: Vec<f32> = ranges.get(&chain.values[0])?.iter().map(constant).collect();
    shift.iter().any(|&t| t > 0.0).then(|| Shift {
        pass: PASS.to_owned(),
        values: chain.values.clone(),
        shift,
    })
}

#[cfg(test)]
mod tests {
    use qloupe_ir::Node;
    use qloupe_tensor::Tensor;

    use super::*;
    use crate::plan::write_plan;
    use crate::quantize::read_plan;
    use crate::small_networks::{Opened, model, numbers};

    /// The float network is the same to this part of its largest output: other sums in float32.
    const FLOAT_TOLERANCE: f32 = 1e-5;

    /// A channel that is large because of its bias, before a Relu and a product without padding.
    fn biased() -> Opened {
        let constants = vec![
            ("wa", numbers(&[4, 3, 1, 1], 1.0)),
            ("ba", Tensor::new(&[4], vec![0.0_f32, 0.5, 60.0, -0.5]).unwrap()),
            ("wb", numbers(&[2, 4, 1, 1], 1.0)),
        ];
        let nodes = vec![
            Node::new("Conv", "a", &["x", "wa", "ba"], &["a"]),
            Node::new("Relu", "r", &["a"], &["r"]),
            Node::new("Conv", "b", &["r", "wb"], &["b"]),
            Node::new("Relu", "y", &["b"], &["y"]),
        ];
        let model = model(nodes, [&[1, 3, 6, 6], &[1, 2, 6, 6]], constants);
        Opened::new(model, &numbers(&[16, 3, 6, 6], 1.0))
    }

    #[test]
    fn a_large_bias_sets_no_range_any_more_and_the_function_stays() {
        let opened = biased();
        let (plain, best) = (opened.quantized(1), opened.quantized(2));
        let passes = &best.plan.optimized.passes;
        let record = passes.iter().find(|record| record.pass == PASS).unwrap();
        assert!(record.kept, "{record:?}");
        let (before, after) = (opened.sqnr_db_of(&plain), opened.sqnr_db_of(&best));
        assert!(after > before + 6.0, "{before:.2} dB, {after:.2} dB");
        let map = &best.prepared.maps["r"];
        let moved: Vec<bool> = map.shift.iter().map(|&t| t > 0.0).collect();
        assert_eq!(moved, [false, false, true, false], "{map:?}");

        let golden = opened.golden();
        let program = &best.prepared.program;
        let rewritten = opened.outputs(|inputs| program.run(inputs.to_vec()).unwrap()[0].1.clone());
        let largest = golden.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        for (a, b) in golden.iter().zip(&rewritten) {
            assert!((a - b).abs() <= FLOAT_TOLERANCE * largest, "{a} {b}");
        }

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.plan.toml");
        write_plan(&path, &best.plan).unwrap();
        let read = read_plan(&path, &opened.session).unwrap();
        assert_eq!(read.plan.optimized.shifts, best.plan.optimized.shifts);
        assert_eq!(opened.sqnr_db_of(&read).to_bits(), after.to_bits());
    }

    #[test]
    fn channels_that_fall_near_zero_or_rise_to_the_bound_are_left() {
        let chain = |limit| Chain {
            values: vec!["a".to_owned(), "r".to_owned()],
            limit,
        };
        let ranges = vec![[-1.0, 9.0], [0.5, 9.5], [2.0, 3.0], [4.0, 5.95], [5.0, 5.0]];
        let ranges = BTreeMap::from([("a".to_owned(), ranges)]);
        let of = |limit| shift(&chain(limit), &ranges).unwrap().shift;
        let close = |found: Vec<f32>, expected: [f32; 5]| {
            let is_close = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(is_close, "{found:?} {expected:?}");
        };
        close(of(None), [0.0, 0.0, 1.9, 3.805, 0.0]);
        close(of(Some(6.0)), [0.0, 0.0, 1.9, 0.0, 0.0]);
    }
}
