//! What a product multiplies its weight with, as rows of a matrix: patches of a picture for a convolution.

use qloupe_exec::Stored;
use qloupe_ir::Node;
use qloupe_tensor::Tensor;

/// Sees one row: where its taps are, all elements of the data, and the number of channels.
type See<'a> = &'a mut dyn FnMut(&[Option<usize>], &[f32], usize);

/// How the weight of a product is a matrix of `n_rows` output channels times `k` elements, in groups.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Output channels of one group.
    pub(super) n_rows: usize,
    /// Elements that one output channel multiplies.
    pub(super) k: usize,
    pub(super) n_groups: usize,
    /// Distance of two output channels in the weight, and of two elements of one.
    strides: (usize, usize),
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Rows,
    Conv(Window),
}

#[derive(Clone, Debug)]
struct Window {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    /// Above, left, below, right.
    pads: [usize; 4],
}

impl Layout {
    /// The layout of a node on data of this rank; `None` for products that have no such matrix here.
    pub(super) fn new(node: &Node, weight: &Tensor, data_idx: usize, data_rank: usize) -> Option<Self> {
        if data_idx != 0 {
            return None;
        }
        match (node.op_type.as_str(), weight.shape()) {
            ("Conv", &[rows, channels, height, width]) if data_rank == 4 => {
                let n_groups = usize::try_from(node.int("group").unwrap_or(1)).ok()?;
                let k = channels * height * width;
                Some(Self {
                    n_rows: rows / n_groups.max(1),
                    k,
                    n_groups,
                    strides: (k, 1),
                    kind: Kind::Conv(Window::new(node, [height, width])?),
                })
            }
            ("Gemm", &[a, b])
                if node.int("transA").unwrap_or(0) == 0
                    && node
                        .float("alpha")
                        .is_none_or(|alpha| alpha.to_bits() == 1.0_f32.to_bits()) =>
            {
                let transposed = node.int("transB").unwrap_or(0) != 0;
                let (rows, k) = if transposed { (a, b) } else { (b, a) };
                Some(Self::rows(rows, k, transposed))
            }
            ("MatMul", &[k, rows]) => Some(Self::rows(rows, k, false)),
            _ => None,
        }
    }

    fn rows(n_rows: usize, k: usize, contiguous: bool) -> Self {
        Self {
            n_rows,
            k,
            n_groups: 1,
            strides: if contiguous { (k, 1) } else { (1, n_rows) },
            kind: Kind::Rows,
        }
    }

    /// The place of an element in the weight.
    pub(super) fn place(&self, group: usize, row: usize, k: usize) -> usize {
        (group * self.n_rows + row) * self.strides.0 + k * self.strides.1
    }

    /// Adds at most `n` evenly spread rows of `k` elements of one group to `out`.
    pub(super) fn gather(&self, data: &Stored, group: usize, n: usize, out: &mut Vec<f32>) {
        let own = self.k / self.n_taps();
        self.visit(data, n, &mut |taps, values, n_channels| {
            let start = out.len();
            out.resize(start + self.k, 0.0);
            for (tap, place) in taps.iter().enumerate() {
                let Some(place) = place else { continue };
                let channels = &values[place * n_channels + group * own..][..own];
                if taps.len() == 1 {
                    out[start..].copy_from_slice(channels);
                    continue;
                }
                for (channel, &value) in channels.iter().enumerate() {
                    out[start + channel * taps.len() + tap] = value;
                }
            }
        });
    }

    /// Adds the elements of at most `n` evenly spread rows of all groups, and their squares, to `sums`; gives the number of
    /// rows.
    pub(super) fn sum(&self, data: &Stored, n: usize, sums: &mut Sums) -> usize {
        let (n_taps, mut n_rows) = (self.n_taps(), 0);
        self.visit(data, n, &mut |taps, values, n_channels| {
            n_rows += 1;
            sums.values.resize(n_taps * n_channels, 0.0);
            sums.squares.resize(n_taps * n_channels, 0.0);
            for (tap, place) in taps.iter().enumerate() {
                let Some(place) = place else { continue };
                let channels = &values[place * n_channels..][..n_channels];
                let places = tap * n_channels..(tap + 1) * n_channels;
                let sums = sums.values[places.clone()]
                    .iter_mut()
                    .zip(&mut sums.squares[places]);
                for ((sum, square), &value) in sums.zip(channels) {
                    let value = f64::from(value);
                    *sum += value;
                    *square += value * value;
                }
            }
        });
        n_rows
    }

    /// The place of an element of a group in [`Sums`].
    pub(super) fn sum_place(&self, group: usize, k: usize) -> usize {
        let n_taps = self.n_taps();
        let own = self.k / n_taps;
        (k % n_taps) * own * self.n_groups + group * own + k / n_taps
    }

    fn n_taps(&self) -> usize {
        match &self.kind {
            Kind::Rows => 1,
            Kind::Conv(window) => window.kernel[0] * window.kernel[1],
        }
    }

    /// Hands over, for each of at most `n` rows, where its taps are in the data: the number of a vector of all channels.
    fn visit(&self, data: &Stored, n: usize, see: See<'_>) {
        match &self.kind {
            Kind::Rows => {
                let Some(values) = data.to_plain().as_slice::<f32>() else {
                    return;
                };
                let n_rows = values.len() / self.k.max(1);
                for row in spread(n_rows, n) {
                    see(&[Some(row)], values, self.k);
                }
            }
            Kind::Conv(window) => {
                let tensor = data.to_nhwc();
                let (Some(values), &[batch, height, width, n_channels]) =
                    (tensor.as_slice::<f32>(), tensor.shape())
                else {
                    return;
                };
                let [rows, columns] = window.output_size(height, width);
                let mut taps = vec![None; self.n_taps()];
                for position in spread(batch * rows * columns, n) {
                    let (image, place) = (position / (rows * columns), position % (rows * columns));
                    window.taps([height, width], [place / columns, place % columns], &mut taps);
                    taps.iter_mut()
                        .flatten()
                        .for_each(|tap| *tap += image * height * width);
                    see(&taps, values, n_channels);
                }
            }
        }
    }
}

/// Sums over rows, for each tap and channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) values: Vec<f64>,
    pub(super) squares: Vec<f64>,
}

/// At most `n` of `len` places, evenly spread.
fn spread(len: usize, n: usize) -> impl Iterator<Item = usize> {
    let n = n.min(len);
    (0..n).map(move |i| (2 * i + 1) * len / (2 * n))
}

impl Window {
    /// `None` for padding that depends on the size of the data.
    fn new(node: &Node, kernel: [usize; 2]) -> Option<Self> {
        let pair = |name: &str| match node.ints(name) {
            Some(&[a, b]) => Some([usize::try_from(a).ok()?, usize::try_from(b).ok()?]),
            Some(_) => None,
            None => Some([1, 1]),
        };
        if !matches!(node.string("auto_pad").unwrap_or("NOTSET"), "NOTSET" | "VALID") {
            return None;
        }
        let pads = match node.ints("pads") {
            Some(&[a, b, c, d]) => {
                let size = |pad: i64| usize::try_from(pad).ok();
                [size(a)?, size(b)?, size(c)?, size(d)?]
            }
            Some(_) => return None,
            None => [0; 4],
        };
        Some(Self {
            kernel,
            strides: pair("strides")?,
            dilations: pair("dilations")?,
            pads,
        })
    }

    fn output_size(&self, height: usize, width: usize) -> [usize; 2] {
        let size = |axis: usize, len: usize| {
            let padded = len + self.pads[axis] + self.pads[axis + 2];
            let extent = (self.kernel[axis] - 1) * self.dilations[axis] + 1;
            padded
                .checked_sub(extent)
                .map_or(0, |room| room / self.strides[axis] + 1)
        };
        [size(0, height), size(1, width)]
    }

    /// The position of each tap in a picture; `None` in the padding.
    fn taps(&self, size: [usize; 2], place: [usize; 2], taps: &mut [Option<usize>]) {
        let at = |axis: usize, tap: usize| {
            let padded = place[axis] * self.strides[axis] + tap * self.dilations[axis];
            padded
                .checked_sub(self.pads[axis])
                .filter(|&idx| idx < size[axis])
        };
        for (idx, tap) in taps.iter_mut().enumerate() {
            let (row, column) = (at(0, idx / self.kernel[1]), at(1, idx % self.kernel[1]));
            *tap = row.zip(column).map(|(row, column)| row * size[1] + column);
        }
    }
}

#[cfg(test)]
mod tests {
    use qloupe_ir::AttributeValue;

    use super::*;

    #[test]
    fn patches_times_weight_is_the_convolution() {
        let node = Node::new("Conv", "c", &["x", "w"], &["y"])
            .with_attribute("pads", AttributeValue::Ints(vec![1, 0, 0, 1]))
            .with_attribute("strides", AttributeValue::Ints(vec![2, 1]))
            .with_attribute("group", AttributeValue::Int(2));
        let weight = Tensor::new(&[4, 1, 2, 2], (0..16).map(|i| i as f32).collect::<Vec<_>>()).unwrap();
        let data: Vec<f32> = (0..24).map(|i| ((i * 7) % 11) as f32).collect();
        let data = Stored::plain(Tensor::new(&[1, 2, 3, 4], data).unwrap());
        let layout = Layout::new(&node, &weight, 0, 4).unwrap();
        assert_eq!((layout.n_rows, layout.k, layout.n_groups), (2, 4, 2));
        let mut graph = qloupe_ir::Graph::default();
        graph.nodes.push(node);
        graph.inputs = vec![
            qloupe_ir::ValueInfo::untyped("x"),
            qloupe_ir::ValueInfo::untyped("w"),
        ];
        graph.outputs = vec![qloupe_ir::ValueInfo::untyped("y")];
        let program = qloupe_exec::Program::from_graph(graph, &|_| 13).unwrap();
        let given = vec![
            ("x".to_owned(), data.to_plain().clone()),
            ("w".to_owned(), weight.clone()),
        ];
        let outputs = program.run(given).unwrap();
        let (expected, w) = (
            outputs[0].1.require::<f32>().unwrap(),
            weight.require::<f32>().unwrap(),
        );
        for group in 0..2 {
            let mut rows = Vec::new();
            layout.gather(&data, group, usize::MAX, &mut rows);
            let n = rows.len() / layout.k;
            for (row, position) in (0..layout.n_rows).flat_map(|row| (0..n).map(move |p| (row, p))) {
                let patch = &rows[position * layout.k..][..layout.k];
                let sum: f32 = (0..layout.k)
                    .map(|k| patch[k] * w[layout.place(group, row, k)])
                    .sum();
                let expected = expected[(group * layout.n_rows + row) * n + position];
                assert_eq!(sum.to_bits(), expected.to_bits(), "{sum} against {expected}");
            }
        }
    }
}
