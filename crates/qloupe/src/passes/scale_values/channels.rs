//! Which channels of values are scaled alike.

use std::collections::BTreeMap;
use std::ops::Range;

/// The channels of values, in classes that share a scale.
#[derive(Debug, Default)]
pub(super) struct Channels<'g> {
    places: BTreeMap<&'g str, Range<usize>>,
    /// Of each channel another one of its class; of the one that stands for the class, itself.
    towards: Vec<usize>,
}

impl<'g> Channels<'g> {
    /// Adds a value with channels that are like no others; false where it is there already.
    pub(super) fn add(&mut self, name: &'g str, n_channels: usize) -> bool {
        if self.places.contains_key(name) {
            return false;
        }
        let begin = self.towards.len();
        self.towards.extend(begin..begin + n_channels);
        self.places.insert(name, begin..begin + n_channels);
        true
    }

    /// How many channels a value has.
    pub(super) fn n_of(&self, name: &str) -> Option<usize> {
        self.places.get(name).map(Range::len)
    }

    /// Makes the channels of a part those of a whole from `offset` on.
    pub(super) fn unite(&mut self, whole: &str, offset: usize, part: &str) {
        let (Some(whole), Some(part)) = (self.places.get(whole), self.places.get(part)) else {
            return;
        };
        let pairs = whole.clone().skip(offset).zip(part.clone());
        for (a, b) in pairs {
            let (a, b) = (self.class(a), self.class(b));
            self.towards[a.max(b)] = a.min(b);
        }
    }

    /// The classes of the channels of a value.
    pub(super) fn classes(&self, name: &str) -> Vec<usize> {
        let place = self.places.get(name).cloned().unwrap_or_default();
        place.map(|channel| self.class(channel)).collect()
    }

    fn class(&self, mut channel: usize) -> usize {
        while self.towards[channel] != channel {
            channel = self.towards[channel];
        }
        channel
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_alike_with_their_place_in_the_whole_and_through_it_with_others() {
        let mut channels = Channels::default();
        for (name, n) in [("a", 2), ("b", 1), ("ab", 3), ("bb", 2)] {
            assert!(channels.add(name, n));
        }
        assert!(!channels.add("a", 2));
        channels.unite("ab", 0, "a");
        channels.unite("ab", 2, "b");
        channels.unite("bb", 0, "b");
        channels.unite("bb", 1, "b");
        let (a, b) = (channels.classes("a"), channels.classes("b"));
        assert_eq!(channels.classes("ab"), [a[0], a[1], b[0]]);
        assert_eq!(channels.classes("bb"), [b[0], b[0]]);
        assert!(a[0] != a[1] && a[1] != b[0]);
    }
}
