//! The search itself, which knows no networks: sets of places, and somebody who says whether a set is enough.

use std::collections::BTreeSet;

/// The candidates that are kept, by their places.
pub(crate) type Kept = BTreeSet<usize>;

/// Adds to `start` the first candidates of `order`, each with those beside it: one, two, four and so on, until it is
/// enough or nothing is left.
pub(crate) fn grow<E>(
    start: &Kept,
    order: &[usize],
    beside: &[Vec<usize>],
    mut is_enough: impl FnMut(&Kept) -> Result<bool, E>,
) -> Result<Kept, E> {
    let mut n = 1;
    loop {
        let mut kept = start.clone();
        for &idx in order.iter().take(n) {
            kept.insert(idx);
            kept.extend(&beside[idx]);
        }
        if n >= order.len() || is_enough(&kept)? {
            return Ok(kept);
        }
        n *= 2;
    }
}

/// Leaves out what is not needed, half of all first, then smaller parts. In the end the set without any single one of its
/// members, the forced ones aside, is not enough.
pub(crate) fn prune<E>(
    kept: &Kept,
    forced: &Kept,
    mut is_enough: impl FnMut(&Kept) -> Result<bool, E>,
) -> Result<Kept, E> {
    let mut kept = kept.clone();
    let mut size = kept.len().div_ceil(2).max(1);
    loop {
        let mut has_dropped = false;
        let loose: Vec<usize> = kept.difference(forced).copied().collect();
        for part in loose.chunks(size) {
            let mut without = kept.clone();
            without.retain(|idx| !part.contains(idx));
            if is_enough(&without)? {
                kept = without;
                has_dropped = true;
            }
        }
        if size > 1 {
            size = size.div_ceil(2);
        } else if !has_dropped {
            return Ok(kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn contains(needed: &Kept, kept: &Kept) -> Result<bool, Infallible> {
        Ok(needed.is_subset(kept))
    }

    proptest! {
        #[test]
        fn exactly_what_is_needed_remains(needed in prop::collection::btree_set(0_usize..40, 0..10)) {
            let order: Vec<usize> = (0..40).rev().collect();
            let beside = vec![Vec::new(); 40];
            let grown = grow(&Kept::new(), &order, &beside, |kept| contains(&needed, kept)).unwrap();
            prop_assert!(needed.is_subset(&grown));
            let pruned = prune(&grown, &Kept::new(), |kept| contains(&needed, kept)).unwrap();
            prop_assert_eq!(pruned, needed);
        }

        /// Enough is what holds one of several pairs: whatever remains, none of it can go.
        #[test]
        fn no_single_one_can_go(pairs in prop::collection::vec((0_usize..12, 0_usize..12), 1..6)) {
            let is_enough = |kept: &Kept| {
                Ok::<_, Infallible>(pairs.iter().any(|(a, b)| kept.contains(a) && kept.contains(b)))
            };
            let pruned = prune(&(0..12).collect(), &Kept::new(), is_enough).unwrap();
            prop_assert!(is_enough(&pruned).unwrap());
            for idx in &pruned {
                let mut without = pruned.clone();
                without.remove(idx);
                prop_assert!(!is_enough(&without).unwrap(), "{:?} without {}", pruned, idx);
            }
        }
    }

    #[test]
    fn forced_ones_stay() {
        let forced = Kept::from([3]);
        let pruned = prune(&Kept::from([1, 2, 3]), &forced, |_| Ok::<_, Infallible>(true)).unwrap();
        assert_eq!(pruned, forced);
    }
}
