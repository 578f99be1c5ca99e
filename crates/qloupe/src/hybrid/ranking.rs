//! The orders in which units are raised: by what was measured of each.

use std::collections::HashMap;

use crate::prepare::Prepared;
use crate::report::{Layer, Report, View, figure_of};
use crate::units::unit_outputs;

/// A unit without multiply-accumulates costs its casts: as much as this part of all multiply-accumulates.
const LEAST_COST: f64 = 1e-4;

/// One order for each thing that is known of units, the most promising first: gain and noise for their cost, the cost
/// alone, the local and the entire error. Units of which nothing is known come last.
pub(super) fn rankings(
    report: &Report,
    prepared: &Prepared,
    candidates: &[usize],
    costs: &[f64],
) -> Vec<Vec<usize>> {
    let layers: HashMap<&str, &Layer> = report
        .layers
        .iter()
        .map(|layer| (layer.name.as_str(), layer))
        .collect();
    let layer = |idx: usize| -> Option<&Layer> {
        let outputs = unit_outputs(&prepared.program, &prepared.topology, &prepared.units[idx]);
        let sources = outputs
            .iter()
            .map(|name| prepared.maps.get(*name).map_or(*name, |map| map.source.as_str()));
        sources.into_iter().find_map(|name| layers.get(name).copied())
    };
    let effect = |idx: usize| layer(idx).and_then(|layer| layer.effect);
    let error = |idx: usize, view: View| figure_of(view.of_layer(layer(idx)?)?, "sqnr_db").map(|db| -db);
    let cost = |idx: usize| costs[idx].max(LEAST_COST);
    let keys: [&dyn Fn(usize) -> Option<f64>; 5] = [
        &|idx| effect(idx).map(|effect| effect.gain_db / cost(idx)),
        &|idx| effect(idx).map(|effect| effect.noise / cost(idx)),
        &|idx| Some(-cost(idx)),
        &|idx| error(idx, View::Local),
        &|idx| error(idx, View::Entire),
    ];
    let mut orders: Vec<Vec<usize>> = Vec::new();
    for key in keys {
        let figure = |idx: usize| key(idx).filter(|x| !x.is_nan()).unwrap_or(f64::NEG_INFINITY);
        let mut order = candidates.to_vec();
        order.sort_by(|&a, &b| figure(b).total_cmp(&figure(a)));
        if !orders.contains(&order) {
            orders.push(order);
        }
    }
    orders
}
