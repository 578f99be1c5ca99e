//! Values that share scales, and what takes these in.

use std::collections::BTreeMap;

use super::Scaling;
use super::roles::Tie;

/// Values whose channels are scaled together. Channels are numbered through the region: a value has some of them, and those
/// of a Concat are those of its members.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// In execution order, each with the numbers of its channels.
    pub(crate) values: Vec<(String, Vec<usize>)>,
    pub(crate) axis: usize,
    pub(crate) n_channels: usize,
    /// Channels that stay as they are, because something that reads or writes them cannot take a scale.
    pub(crate) is_pinned: Vec<bool>,
    /// The constants that are multiplied with values.
    pub(crate) weights: Vec<RegionWeight>,
    /// Values that the weights after them multiply.
    pub(crate) reads: Vec<String>,
    /// Concats and Splits within the region.
    pub(crate) joins: Vec<Joined>,
}

/// A constant that takes scales in.
#[derive(Clone, Debug)]
pub(crate) struct RegionWeight {
    pub(crate) name: String,
    pub(crate) tie: Tie,
    /// The numbers of the channels that its place tells apart.
    pub(crate) channels: Vec<usize>,
}

impl RegionWeight {
    /// The number of the channel of an element.
    pub(crate) fn channel(&self, idx: usize, shape: &[usize]) -> usize {
        self.channels[self.tie.place.channel(idx, shape)]
    }
}

/// A value that others are parts of.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) whole: String,
    /// The numbers of the channels of each part.
    pub(crate) members: Vec<Vec<usize>>,
}

impl Region {
    /// The range of each channel where weights multiply it; nothing where the ranges of a value are missing.
    pub(crate) fn ranges(&self, of_values: &BTreeMap<String, Vec<[f32; 2]>>) -> Option<Vec<[f32; 2]>> {
        let mut ranges = vec![[0.0; 2]; self.n_channels];
        for name in &self.reads {
            let (_, channels) = self.values.iter().find(|(value, _)| value == name)?;
            let found = of_values
                .get(name)
                .filter(|found| found.len() == channels.len())?;
            for (&channel, range) in channels.iter().zip(found) {
                ranges[channel] = *range;
            }
        }
        Some(ranges)
    }

    /// What a scale for each channel does to the values: those that are scaled alike together, those that are not scaled left
    /// out.
    pub(crate) fn scalings(&self, pass: &str, scale: &[f32]) -> Vec<Scaling> {
        let mut groups: Vec<(&[usize], Scaling)> = Vec::new();
        for (name, channels) in &self.values {
            if let Some((_, known)) = groups.iter_mut().find(|(group, _)| group == channels) {
                known.values.push(name.clone());
                continue;
            }
            let scaling = Scaling {
                pass: pass.to_owned(),
                values: vec![name.clone()],
                axis: self.axis,
                scale: channels.iter().map(|&channel| scale[channel]).collect(),
            };
            groups.push((channels, scaling));
        }
        let scalings = groups.into_iter().map(|(_, scaling)| scaling);
        let is_scaled = |scaling: &Scaling| scaling.scale.iter().any(|s| s.to_bits() != 1.0_f32.to_bits());
        scalings.filter(is_scaled).collect()
    }
}
