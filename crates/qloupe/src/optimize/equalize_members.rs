//! `equalize_members`: brings the members of a Concat within the network to one magnitude.
//!
//! A Concat has one scale. A member whose largest magnitude is a hundredth of another's has two of the 255 integers, however
//! large the weights are that multiply it afterwards. Its channels are multiplied by a power of two in the weights that produce
//! them, and divided by it in those that read the result: the float network stays the same bit for bit, as long as nothing leaves
//! the range of normal numbers. Channels that a Split tells apart are members of its input.
//!
//! `s = 2^floor(a log2(m / r) + 1/2)`, where `m` is the largest magnitude of the member and `r` that of the members that cannot be
//! scaled, or of all where all can. Several strengths `a` compete: what is won in the value is lost in the weights after it.
//!
//! An Add has no members: both addends have to be scaled as the sum is, so that their proportions stay.

use std::collections::BTreeMap;

use crate::passes::Scaling;
use crate::passes::scale_values::Region;

/// The name of the pass in plans and reports.
pub(super) const PASS: &str = "equalize_members";

/// What competes as `a`.
pub(super) const STRENGTHS: &[f32] = &[1.0, 0.5];

/// Members whose largest magnitudes are nearer to each other share a scale well enough.
const LEAST_RATIO: f32 = 8.0;
/// Exponents beyond this are not taken.
const MAX_EXPONENT: f32 = 16.0;

/// Scales that bring the members of Concats to one magnitude. `ranges` are those of the channels of their results.
pub(super) fn equalize_members(
    regions: &[Region],
    ranges: &BTreeMap<String, Vec<[f32; 2]>>,
    strength: f32,
) -> Vec<Scaling> {
    let of_region = |region: &Region| {
        let magnitudes = magnitudes(region, ranges);
        if !is_uneven(region, &magnitudes) {
            return Vec::new();
        }
        let members = members(region);
        let largest = |channels: &[usize]| channels.iter().map(|&c| magnitudes[c]).fold(0.0, f32::max);
        let is_pinned = |channels: &[usize]| channels.iter().any(|&c| region.is_pinned[c]);
        let of_pinned = members.iter().filter(|channels| is_pinned(channels));
        let pinned = of_pinned.map(|channels| largest(channels)).fold(0.0, f32::max);
        let reference = if pinned > 0.0 {
            pinned
        } else {
            magnitudes.iter().copied().fold(0.0, f32::max)
        };
        let mut scale = vec![1.0; region.n_channels];
        for channels in members.iter().filter(|channels| !is_pinned(channels)) {
            let magnitude = largest(channels);
            if magnitude > 0.0 {
                let exponent = (strength * (magnitude / reference).log2() + 0.5).floor();
                let factor = exponent.clamp(-MAX_EXPONENT, MAX_EXPONENT).exp2();
                channels.iter().for_each(|&channel| scale[channel] = factor);
            }
        }
        region.scalings(PASS, &scale)
    };
    regions.iter().flat_map(of_region).collect()
}

/// The largest magnitude of each channel that some join has.
fn magnitudes(region: &Region, ranges: &BTreeMap<String, Vec<[f32; 2]>>) -> Vec<f32> {
    let mut magnitudes = vec![0.0_f32; region.n_channels];
    for join in &region.joins {
        let channels = join.members.iter().flatten();
        for (&channel, [min, max]) in channels.zip(ranges.get(&join.whole).into_iter().flatten()) {
            magnitudes[channel] = magnitudes[channel].max(max.max(-min));
        }
    }
    magnitudes
}

/// True where the members of a Concat, one of which can be scaled, lie far apart.
fn is_uneven(region: &Region, magnitudes: &[f32]) -> bool {
    region.joins.iter().any(|join| {
        let largest = |channels: &Vec<usize>| channels.iter().map(|&c| magnitudes[c]).fold(0.0, f32::max);
        let of_members = || {
            join.members
                .iter()
                .map(largest)
                .filter(|magnitude| *magnitude > 0.0)
        };
        let least = of_members().fold(f32::INFINITY, f32::min);
        of_members().fold(0.0, f32::max) >= LEAST_RATIO * least
    })
}

/// The channels of a region by what they are members of: those of the same members of the same joins are scaled alike.
fn members(region: &Region) -> Vec<Vec<usize>> {
    let mut places = vec![Vec::new(); region.n_channels];
    for (join_idx, join) in region.joins.iter().enumerate() {
        for (member_idx, channels) in join.members.iter().enumerate() {
            for &channel in channels {
                places[channel].push((join_idx, member_idx));
            }
        }
    }
    let mut members: BTreeMap<Vec<(usize, usize)>, Vec<usize>> = BTreeMap::new();
    for (channel, place) in places.into_iter().enumerate() {
        members.entry(place).or_default().push(channel);
    }
    members.into_values().collect()
}

#[cfg(test)]
mod tests {
    use qloupe_exec::Program;
    use qloupe_ir::{AttributeValue, Node};
    use qloupe_tensor::Tensor;

    use super::*;
    use crate::plan::write_plan;
    use crate::quantize::read_plan;
    use crate::small_networks::{Opened, model, numbers};

    /// How much smaller one member is than the other.
    const APART: f32 = 0.01;

    /// Two branches, one a hundredth of the other, that count alike in what follows their Concat.
    fn uneven() -> Opened {
        let wave = |shape: &[usize], k: f32, scale: &dyn Fn(usize) -> f32| {
            let n: usize = shape.iter().product();
            let values = (0..n).map(|idx| ((idx as f32 + 1.0) * k).sin() * scale(idx));
            Tensor::new(shape, values.collect()).unwrap()
        };
        let reading = |idx: usize| if idx % 8 < 4 { 1.0 } else { APART.recip() };
        let constants = vec![
            ("wa", wave(&[4, 3, 1, 1], 1.7, &|_| 1.0)),
            ("wb", wave(&[4, 3, 1, 1], 2.3, &|_| APART)),
            ("wc", wave(&[2, 8, 1, 1], 0.9, &reading)),
        ];
        let nodes = vec![
            Node::new("Conv", "a", &["x", "wa"], &["a"]),
            Node::new("Relu", "ra", &["a"], &["ra"]),
            Node::new("Conv", "b", &["x", "wb"], &["b"]),
            Node::new("Relu", "rb", &["b"], &["rb"]),
            Node::new("Concat", "c", &["ra", "rb"], &["c"]).with_attribute("axis", AttributeValue::Int(1)),
            Node::new("Conv", "y", &["c", "wc"], &["y"]),
        ];
        let model = model(nodes, [&[1, 3, 6, 6], &[1, 2, 6, 6]], constants);
        Opened::new(model, &numbers(&[16, 3, 6, 6], 1.0))
    }

    #[test]
    fn a_member_of_a_hundredth_is_not_lost_any_more() {
        let opened = uneven();
        let (plain, best) = (opened.quantized(1), opened.quantized(2));
        let record = best
            .plan
            .optimized
            .passes
            .iter()
            .find(|record| record.pass == PASS)
            .unwrap();
        assert!(record.kept, "{record:?}");
        let (before, after) = (opened.sqnr_db_of(&plain), opened.sqnr_db_of(&best));
        assert!(after > before + 10.0, "{before:.2} dB, {after:.2} dB");
        let small = best.prepared.maps["rb"].scale[0];
        assert!(small < 0.05 && small.log2().fract() == 0.0, "{small}");
        assert_eq!(best.prepared.maps["c"].scale, [[1.0; 4], [small; 4]].concat());
        assert!(!best.prepared.maps.contains_key("ra"));

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.plan.toml");
        write_plan(&path, &best.plan).unwrap();
        let read = read_plan(&path, &opened.session).unwrap();
        assert_eq!(read.plan.optimized.scalings, best.plan.optimized.scalings);
        assert_eq!(opened.sqnr_db_of(&read).to_bits(), after.to_bits());

        let exported = crate::qdq::export_qdq(&best.prepared, &best.plan).unwrap();
        let program = Program::new(&exported).unwrap();
        let of_file = opened.sqnr_db(|inputs| program.run(inputs.to_vec()).unwrap()[0].1.clone());
        assert!(of_file > before + 10.0, "{before:.2} dB, {of_file:.2} dB");
    }

    #[test]
    fn members_of_one_magnitude_are_left_alone() {
        let join = crate::passes::scale_values::Joined {
            whole: "c".to_owned(),
            members: vec![vec![0], vec![1]],
        };
        let region = |is_pinned: [bool; 2]| Region {
            values: vec![
                ("a".to_owned(), vec![0]),
                ("b".to_owned(), vec![1]),
                ("c".to_owned(), vec![0, 1]),
            ],
            axis: 1,
            n_channels: 2,
            is_pinned: is_pinned.to_vec(),
            weights: Vec::new(),
            reads: vec!["c".to_owned()],
            joins: vec![join.clone()],
        };
        let scales = |ranges: [[f32; 2]; 2], is_pinned: [bool; 2], strength: f32| {
            let ranges = BTreeMap::from([("c".to_owned(), ranges.to_vec())]);
            let scalings = equalize_members(&[region(is_pinned)], &ranges, strength);
            let scaling = scalings.into_iter().find(|scaling| scaling.values == ["c"]);
            scaling.map(|scaling| scaling.scale)
        };
        let free = [false; 2];
        assert_eq!(scales([[0.0, 7.0], [-1.0, 0.5]], free, 1.0), None);
        assert_eq!(scales([[0.0, 0.0], [-1.0, 0.5]], free, 1.0), None);
        assert_eq!(
            scales([[0.0, 64.0], [-1.0, 0.5]], free, 1.0),
            Some(vec![1.0, 1.0 / 64.0])
        );
        assert_eq!(
            scales([[0.0, 64.0], [-1.0, 0.5]], free, 0.5),
            Some(vec![1.0, 0.125])
        );
        let small_stays = [false, true];
        assert_eq!(
            scales([[0.0, 64.0], [-1.0, 0.5]], small_stays, 1.0),
            Some(vec![64.0, 1.0])
        );
        assert_eq!(scales([[0.0, 64.0], [-1.0, 0.5]], [true; 2], 1.0), None);
    }
}
