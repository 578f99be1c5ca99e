//! Outputs that take each axis from a list of indices: Pad, Resize, CenterCropPad.

use super::movement::{Run, count, reserved, strides_of};
use super::scatter::advance;
use crate::OpError;

/// Checks that an output of a shape that a model chose fits into memory, and the maps of its axes too.
pub(super) fn require_room(shape: &[usize]) -> Result<(), OpError> {
    let longest = shape.iter().copied().max().unwrap_or(0);
    reserved::<Option<usize>>(count(shape)?.max(longest)).map(drop)
}

/// The runs of an output whose element at `[i, j, ..]` is element `[maps[0][i], maps[1][j], ..]` of a tensor of `shape`
/// (source 0), or the constant (source 1) where a map has `None`.
pub(super) fn runs(shape: &[usize], maps: &[Vec<Option<usize>>]) -> Vec<Run> {
    let strides = strides_of(shape);
    let Some((row_map, outer)) = maps.split_last() else {
        return vec![Run::contiguous(0, 1)];
    };
    let row = row_runs(row_map);
    let outer_shape: Vec<usize> = outer.iter().map(Vec::len).collect();
    let constant = |len: usize| Run {
        source: 1,
        start: 0,
        stride: 0,
        len,
    };
    let mut runs = Vec::new();
    let mut at = vec![0; outer.len()];
    for _ in 0..outer_shape.iter().product::<usize>() {
        let start: Option<usize> = outer
            .iter()
            .enumerate()
            .map(|(axis, map)| map[at[axis]].map(|i| i * strides[axis]))
            .sum();
        match start {
            Some(start) => runs.extend(row.iter().map(|run| match run.source {
                0 => Run {
                    start: start + run.start,
                    ..*run
                },
                _ => *run,
            })),
            None => runs.push(constant(row_map.len())),
        }
        advance(&mut at, &outer_shape);
    }
    runs
}

/// The runs of one row.
fn row_runs(map: &[Option<usize>]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for source in map {
        let next = match source {
            Some(start) => Run::contiguous(*start, 1),
            None => Run {
                source: 1,
                start: 0,
                stride: 0,
                len: 1,
            },
        };
        match runs.last_mut() {
            Some(run)
                if run.source == next.source && run.start + run.stride as usize * run.len == next.start =>
            {
                run.len += 1;
            }
            _ => runs.push(next),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_that_no_memory_holds_are_refused() {
        assert!(require_room(&[2, 3]).is_ok(), "six elements fit");
        for shape in [[1 << 62, 0], [1 << 62, 4]] {
            assert!(require_room(&shape).is_err(), "{shape:?}");
        }
    }

    #[test]
    fn rows_join_into_runs() {
        let map = [None, Some(0), Some(1), Some(2), Some(2)];
        let lengths: Vec<(usize, usize)> = row_runs(&map).iter().map(|r| (r.source, r.len)).collect();
        assert_eq!(lengths, [(1, 1), (0, 3), (0, 1)]);
        let rows = runs(&[2, 3], &[vec![Some(1), None], map.to_vec()]);
        let starts: Vec<(usize, usize)> = rows.iter().map(|r| (r.source, r.start)).collect();
        assert_eq!(starts, [(1, 0), (0, 3), (0, 5), (1, 0)]);
    }
}
