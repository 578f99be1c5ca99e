//! The ranges of the channels of values over the tuning samples.

use std::collections::BTreeMap;

use qloupe_exec::{Program, Stored, Tapped};
use qloupe_tensor::Tensor;

use super::Work;
use crate::Error;
use crate::prepare::Network;

/// The range of every channel of values, each given with the axis of its channels.
pub(super) fn channel_ranges(
    work: &Work<'_>,
    program: &Program,
    axes: &BTreeMap<String, usize>,
) -> Result<BTreeMap<String, Vec<[f32; 2]>>, Error> {
    let wanted: Vec<bool> = program.values().map(|name| axes.contains_key(name)).collect();
    let goals: Vec<&str> = program.graph().output_names().collect();
    let mut ranges: BTreeMap<String, Vec<[f32; 2]>> = BTreeMap::new();
    for inputs in work.tuning() {
        let given = inputs
            .iter()
            .map(|(name, tensor)| (name.clone(), Stored::plain(tensor.clone())));
        let walk = program.walk_tapped(given.collect(), &goals, Tapped::Only(&wanted));
        let located = |e| Network::located(work.network(), e);
        let mut walk = walk.map_err(located)?;
        while let Some(stepped) = walk.step().map_err(located)? {
            for (name, value) in stepped.outputs() {
                if let (Some(&axis), Some(tensor)) = (axes.get(name), value.as_tensor()) {
                    widen(
                        ranges.entry(name.to_owned()).or_default(),
                        tensor.to_plain(),
                        axis,
                    );
                }
            }
        }
    }
    Ok(ranges)
}

fn widen(ranges: &mut Vec<[f32; 2]>, tensor: &Tensor, axis: usize) {
    let (Some(values), Some(&n_channels)) = (tensor.as_slice::<f32>(), tensor.shape().get(axis)) else {
        return;
    };
    let inner: usize = tensor.shape()[axis + 1..].iter().product();
    ranges.resize(n_channels, [f32::INFINITY, f32::NEG_INFINITY]);
    for (run, values) in values.chunks(inner.max(1)).enumerate() {
        let range = &mut ranges[run % n_channels];
        for &value in values {
            *range = [range[0].min(value), range[1].max(value)];
        }
    }
}
