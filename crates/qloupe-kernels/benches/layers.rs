//! Times single layers: `cargo bench -p qloupe-kernels --bench layers`, one line `name microseconds` for each.
//!
//! `bench/kernels_onnxruntime.py` prints the same layers in ONNX Runtime beside these.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::time::Instant;

use qloupe_kernels::*;
use qloupe_tensor::Requantize;

/// name, size, input channels, output channels, kernel, stride, group
const LAYERS: &[(&str, usize, usize, usize, usize, usize, usize)] = &[
    ("3x3 64-64 56", 56, 64, 64, 3, 1, 1),
    ("1x1 64-128 56", 56, 64, 128, 1, 1, 1),
    ("1x1 256-64 56", 56, 256, 64, 1, 1, 1),
    ("3x3 128-128 28", 28, 128, 128, 3, 1, 1),
    ("3x3 256-256 14", 14, 256, 256, 3, 1, 1),
    ("3x3 512-512 7", 7, 512, 512, 3, 1, 1),
    ("1x1 512-2048 7", 7, 512, 2048, 1, 1, 1),
    ("3x3s2 32-64 80", 80, 32, 64, 3, 2, 1),
    ("3x3 16-16 80", 80, 16, 16, 3, 1, 1),
    ("first 3x3s2 3-32 224", 224, 3, 32, 3, 2, 1),
    ("first 7x7s2 3-64 224", 224, 3, 64, 7, 2, 1),
    ("1x1 64-256 56", 56, 64, 256, 1, 1, 1),
    ("1x1 1024-256 14", 14, 1024, 256, 1, 1, 1),
    ("groups 3x3 128 56", 56, 128, 128, 3, 1, 32),
    ("dw 3x3 96 56", 56, 96, 96, 3, 1, 96),
    ("dw 3x3s2 96 56", 56, 96, 96, 3, 2, 96),
    ("dw 5x5 120 28", 28, 120, 120, 5, 1, 120),
    ("dw 3x3 960 7", 7, 960, 960, 3, 1, 960),
];

#[global_allocator]
static ALLOCATOR: LayerAllocator = LayerAllocator::new();

fn best_us(mut f: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::MAX;
    let mut runs = 0;
    while runs < 5 || (start.elapsed().as_millis() < 250 && runs < 2000) {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64() * 1e6);
        runs += 1;
    }
    best
}

fn geometry(
    &(_, size, ic, oc, k, stride, group): &(&str, usize, usize, usize, usize, usize, usize),
) -> ConvGeometry {
    ConvGeometry {
        n: 1,
        ih: size,
        iw: size,
        ic,
        oc,
        kh: k,
        kw: k,
        stride_h: stride,
        stride_w: stride,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: k / 2,
        pad_left: k / 2,
        pad_bottom: k / 2,
        pad_right: k / 2,
        group,
    }
}

/// m, k, n
const PRODUCTS: &[(usize, usize, usize)] = &[(1, 2048, 1000), (197, 768, 768), (400, 32, 400)];

/// Products with a constant and with a computed right-hand matrix.
fn run_products(filter: &str) {
    for &(m, k, n) in PRODUCTS {
        let a: Vec<f32> = (0..m * k).map(|i| (i % 11) as f32 * 0.1 - 0.5).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i % 7) as f32 * 0.1 - 0.3).collect();
        let mut out = vec![0.0; m * n];
        let gflop = (2 * m * k * n) as f64 * 1e-9;
        let name = format!("product {m}x{k}x{n}");
        if name.contains(filter) {
            let packed = GemmF32::new(&b, k, n, None);
            let us = best_us(|| packed.run(&a, m, &mut out));
            println!("{name}\t{us:.1}\t{:.0} GFLOP/s", gflop * 1e6 / us);
            let us = best_us(|| matmul_f32(&a, &b, m, k, n, &mut out));
            println!("{name} computed\t{us:.1}\t{:.0} GFLOP/s", gflop * 1e6 / us);
        }
    }
}

/// Memory-bound kernels over one feature map of 64 channels, 112x112.
fn run_maps(filter: &str) {
    const CHANNELS: usize = 64;
    const PIXELS: usize = 112 * 112;
    let x: Vec<f32> = (0..CHANNELS * PIXELS)
        .map(|i| (i % 1001) as f32 * 0.01 - 5.0)
        .collect();
    let bytes: Vec<u8> = (0..x.len()).map(|i| (i % 251) as u8).collect();
    let mut out = vec![0.0; x.len()];
    let mut bytes_out = vec![0_u8; x.len()];
    let pool = PoolGeometry {
        n: 1,
        ih: 112,
        iw: 112,
        c: CHANNELS,
        oh: 56,
        ow: 56,
        kh: 3,
        kw: 3,
        stride_h: 2,
        stride_w: 2,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 1,
        pad_left: 1,
        pad_bottom: 1,
        pad_right: 1,
    };
    let table = [7; 256];
    type Step<'a> = Box<dyn FnMut(&mut Vec<f32>, &mut Vec<u8>) + 'a>;
    let input = &x;
    let unary_step = |kernel| -> Step<'_> { Box::new(move |out, _| unary(kernel, input, out)) };
    let steps: Vec<(&str, Step<'_>)> = vec![
        ("relu", unary_step(UnaryKernel::Relu)),
        ("exp", unary_step(UnaryKernel::Exp)),
        ("silu", unary_step(UnaryKernel::Silu)),
        ("tanh", unary_step(UnaryKernel::Tanh)),
        ("erf", unary_step(UnaryKernel::Erf)),
        ("add", Box::new(|out, _| binary(BinaryKernel::Add, &x, &x, out))),
        (
            "add row",
            Box::new(|out, _| binary_row(BinaryKernel::Add, &x, &x[..CHANNELS], out)),
        ),
        (
            "softmax 16",
            Box::new(|out, _| softmax_rows(&x, x.len() / 16, 16, out)),
        ),
        (
            "softmax 784",
            Box::new(|out, _| softmax_rows(&x, x.len() / 784, 784, out)),
        ),
        (
            "quantize u8",
            Box::new(|_, q| quantize(&x, 0.03, 128, QuantizedSliceMut::U8(q))),
        ),
        (
            "dequantize u8",
            Box::new(|out, _| dequantize(QuantizedSlice::U8(&bytes), 0.03, 128, out)),
        ),
        (
            "fake quantize",
            Box::new(|out, _| fake_quantize(&x, 0.03, 128, (0, 255), out)),
        ),
        (
            "round to fp16",
            Box::new(|out, _| {
                round_to_fp16(out);
            }),
        ),
        (
            "min max",
            Box::new(|_, _| {
                std::hint::black_box(min_max(&x));
            }),
        ),
        ("lookup", Box::new(|_, q| lookup(&bytes, &table, q))),
        (
            "nchw to nhwc f32",
            Box::new(|out, _| nchw_to_nhwc(&x, 1, CHANNELS, PIXELS, out)),
        ),
        (
            "nhwc to nchw f32",
            Box::new(|out, _| nhwc_to_nchw(&x, 1, CHANNELS, PIXELS, out)),
        ),
        (
            "nchw to nhwc u8",
            Box::new(|_, q| nchw_to_nhwc(&bytes, 1, CHANNELS, PIXELS, q)),
        ),
        (
            "nhwc to nchw u8",
            Box::new(|_, q| nhwc_to_nchw(&bytes, 1, CHANNELS, PIXELS, q)),
        ),
        (
            "nchw to nhwc 3 channels",
            Box::new(|out, _| nchw_to_nhwc(&x[..3 * 50_176], 1, 3, 50_176, &mut out[..3 * 50_176])),
        ),
        (
            "max pool 3x3s2",
            Box::new(|out, _| max_pool(&x, &pool, &mut out[..pool.n_outputs()])),
        ),
        (
            "global average pool",
            Box::new(|out, _| global_average_pool(&x, 1, PIXELS, CHANNELS, &mut out[..CHANNELS])),
        ),
    ];
    for (name, mut step) in steps {
        if name.contains(filter) {
            let us = best_us(|| step(&mut out, &mut bytes_out));
            println!(
                "map {name}\t{us:.1}\t{:.2} elements/ns",
                x.len() as f64 / us * 1e-3
            );
        }
    }
}

/// Times a step that moves `n_bytes`, read and written.
fn report(filter: &str, name: &str, n_bytes: usize, f: impl FnMut()) {
    if name.contains(filter) {
        let us = best_us(f);
        println!(
            "quantized {name}\t{us:.1}\t{:.1} GB/s",
            n_bytes as f64 / us * 1e-3
        );
    }
}

/// Kernels between 8-bit values.
fn run_quantized(filter: &str) {
    for (size, c) in [(56, 64), (80, 64)] {
        let n = size * size * c;
        let x: Vec<u8> = (0..n).map(|i| (i * 7919 % 251) as u8).collect();
        let mut real: Vec<f32> = x.iter().map(|&q| f32::from(q) * 0.03 - 4.0).collect();
        let mut real_out = vec![0.0; n];
        let mut out = vec![0_u8; 2 * n];
        let name = |kernel: &str| format!("{kernel} {size}x{size}x{c}");
        let q = QuantizedSlice::U8(&x);
        let table: [u8; 256] = std::array::from_fn(|i| 255 - i as u8);
        report(filter, &name("lookup"), 2 * n, || {
            lookup(&x, &table, &mut out[..n])
        });
        for (kernel, before) in [
            (QuantizedBinaryKernel::Add, true),
            (QuantizedBinaryKernel::Add, false),
            (QuantizedBinaryKernel::Mul, false),
        ] {
            let op = QuantizedBinary {
                kernel,
                a: (0.02, 3),
                b: (0.03, 100),
                out: (0.05, 9),
                zero_point_before: before,
                range: (0, 255),
            };
            let place = if before { "before" } else { "after" };
            report(filter, &name(&format!("{kernel:?} {place}")), 3 * n, || {
                op.run(q, q, n, QuantizedSliceMut::U8(&mut out[..n]));
            });
            report(
                filter,
                &name(&format!("{kernel:?} {place}, a channel operand")),
                2 * n,
                || {
                    op.run(q, q.part(0, c), c, QuantizedSliceMut::U8(&mut out[..n]));
                },
            );
        }
        let member = |table| ConcatMember { x: q, row: c, table };
        let members = [member(Some(&table)), member(None)];
        report(filter, &name("concat"), 4 * n, || {
            concat_quantized(&members, size * size, QuantizedSliceMut::U8(&mut out));
        });
        report(filter, &name("half of the channels"), n, || {
            copy_strided(&x, &[(size * size, c), (c / 2, 1)], &mut out[..n / 2]);
        });
        let half = size / 2;
        for (kernel, stride) in [(2, 2), (3, 1), (3, 2), (5, 1)] {
            let g = PoolGeometry {
                n: 1,
                ih: size,
                iw: size,
                c,
                oh: if stride == 1 { size } else { half },
                ow: if stride == 1 { size } else { half },
                kh: kernel,
                kw: kernel,
                stride_h: stride,
                stride_w: stride,
                dilation_h: 1,
                dilation_w: 1,
                pad_top: (kernel - 1) / 2,
                pad_left: (kernel - 1) / 2,
                pad_bottom: (kernel - 1) / 2,
                pad_right: (kernel - 1) / 2,
            };
            let window = format!("{kernel}x{kernel}s{stride}");
            report(
                filter,
                &name(&format!("max pool {window}")),
                n + g.n_outputs(),
                || {
                    max_pool_quantized(&x, &g, &mut out[..g.n_outputs()]);
                },
            );
            let mean = AveragePoolQuantized {
                input: (0.02, 3),
                output: (0.02, 3),
                range: (0, 255),
                count_include_pad: false,
            };
            report(
                filter,
                &name(&format!("average pool {window}")),
                n + g.n_outputs(),
                || {
                    mean.run(&x, &g, &mut out[..g.n_outputs()]);
                },
            );
        }
        let mut sums = vec![0; c];
        report(filter, &name("global sum"), n, || {
            global_sum(q, 1, size * size, c, &mut sums)
        });
        report(filter, &name("quantize"), 5 * n, || {
            quantize(&real, 0.03, 128, QuantizedSliceMut::U8(&mut out[..n]));
        });
        report(filter, &name("dequantize"), 5 * n, || {
            dequantize(q, 0.03, 128, &mut real_out)
        });
        report(filter, &name("fake quantize"), 8 * n, || {
            fake_quantize(&real, 0.03, 128, (0, 255), &mut real_out);
        });
        report(filter, &name("min max"), 4 * n, || {
            std::hint::black_box(min_max(&real));
        });
        let other: Vec<f32> = real.iter().map(|v| v + 0.01).collect();
        let q: Vec<i8> = (0..n).map(|i| (i % 251) as u8 as i8).collect();
        let integers = Numbers::Quantized {
            q: QuantizedSlice::I8(&q),
            scale: 0.03,
            zero_point: 3,
        };
        for (kind, bytes, tested) in [("f32", 16 * n, Numbers::Real(&other)), ("i8", 7 * n, integers)] {
            report(filter, &name(&format!("pair sums of 3 {kind}")), bytes, || {
                for start in (0..n).step_by(MAX_PAIRS) {
                    let len = MAX_PAIRS.min(n - start);
                    let parts = [tested.part(start, len); 3];
                    std::hint::black_box(pair_sums(&real[start..][..len], parts, (-3.0, 3.0)));
                }
            });
        }
        report(filter, &name("round to fp16"), 8 * n, || {
            round_to_fp16(&mut real);
        });
    }
    // Heads of attention: [tokens, heads, depth] to [heads, tokens, depth] and [heads, depth, tokens].
    let (tokens, heads, depth) = (197, 12, 64);
    let x: Vec<u8> = (0..tokens * heads * depth).map(|i| i as u8).collect();
    let mut out = x.clone();
    let (t, h, d) = ((tokens, heads * depth), (heads, depth), (depth, 1));
    report(filter, "heads 197x12x64", 2 * x.len(), || {
        copy_strided(&x, &[h, t, d], &mut out)
    });
    report(filter, "heads 197x12x64 transposed", 2 * x.len(), || {
        copy_strided(&x, &[h, d, t], &mut out)
    });
    for (rows, cols, spread) in [(400 * 8, 400, 60), (197 * 12, 197, 60), (33_600, 16, 200)] {
        let x: Vec<u8> = (0..rows * cols)
            .map(|i| (i * 7919 % 251 % spread) as u8)
            .collect();
        let mut out = vec![0_u8; x.len()];
        let exponentials = std::array::from_fn(|d| (8e6 * (-(d as f64) * 0.05).exp()) as u32);
        let softmax = SoftmaxQuantized::new(exponentials, 256, 0, (0, 255));
        report(filter, &format!("softmax {rows}x{cols}"), 2 * x.len(), || {
            softmax.run(QuantizedSlice::U8(&x), cols, 1, QuantizedSliceMut::U8(&mut out));
        });
    }
    for (batch, m, k, n) in [
        (8, 400, 32, 400),
        (8, 400, 400, 32),
        (12, 197, 64, 197),
        (12, 197, 197, 64),
    ] {
        let a: Vec<u8> = (0..batch * m * k).map(|i| (i * 7919 % 251) as u8).collect();
        let b: Vec<u8> = (0..batch * k * n).map(|i| (i * 104_729 % 251) as u8).collect();
        let mut out = vec![0_u8; batch * m * n];
        let epilogue = Epilogue {
            multiplier: vec![1e-3],
            zero_point: 128,
            min: 0,
            max: 255,
            policy: Requantize::FloatScaleZeroPointAfter,
        };
        let product = MatMulQuantized {
            a: QuantizedSlice::U8(&a),
            b: QuantizedSlice::U8(&b),
            m,
            k,
            n,
            a_zero_point: 120,
            b_zero_point: 131,
            epilogue: &epilogue,
        };
        let offsets: Vec<_> = (0..batch).map(|i| (i * m * k, i * k * n)).collect();
        let name = format!("product {batch} of {m}x{k}x{n}");
        if name.contains(filter) {
            let us = best_us(|| product.run(&offsets, QuantizedSliceMut::U8(&mut out)));
            println!(
                "quantized {name}\t{us:.1}\t{:.0} GOP/s",
                (2 * batch * m * k * n) as f64 / us * 1e-3
            );
        }
    }
}

fn main() {
    let filter = std::env::args()
        .skip(1)
        .find(|a| !a.starts_with("--"))
        .unwrap_or_default();
    let threads = std::env::var("THREADS")
        .ok()
        .and_then(|t| t.parse().ok())
        .unwrap_or(1);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("a thread pool");
    pool.install(|| {
        run(&filter);
        run_products(&filter);
        run_maps(&filter);
        run_quantized(&filter);
    });
}

fn run(filter: &str) {
    for layer in LAYERS {
        let g = geometry(layer);
        let icg = g.ic / g.group;
        let n_weights = g.oc * icg * g.kh * g.kw;
        let gmacs = (g.n_outputs() * icg * g.kh * g.kw) as f64 * 1e-9;
        let name = format!("f32 {}", layer.0);
        if name.contains(filter) {
            let weight: Vec<f32> = (0..n_weights).map(|i| (i % 7) as f32 * 0.1 - 0.3).collect();
            let x: Vec<f32> = (0..g.n_inputs()).map(|i| (i % 11) as f32 * 0.1 - 0.5).collect();
            let mut out = vec![0.0; g.n_outputs()];
            let conv = ConvF32::new(&weight, None, g.oc, icg, g.kh, g.kw, g.group);
            let us = best_us(|| conv.run(&x, &g, (0.0, 6.0), &mut out));
            println!("{name}\t{us:.1}\t{:.0} GFLOP/s", gmacs * 2e6 / us);
        }
        let name = format!("i8 {}", layer.0);
        if name.contains(filter) {
            let weight: Vec<i8> = (0..n_weights).map(|i| (i % 7) as i8 - 3).collect();
            let x: Vec<u8> = (0..g.n_inputs()).map(|i| (i % 251) as u8).collect();
            let mut out = vec![0; g.n_outputs()];
            let conv = ConvI8::new(&weight, None, g.oc, icg, g.kh, g.kw, g.group);
            let epilogue = Epilogue {
                multiplier: vec![0.01; g.oc],
                zero_point: 3,
                min: 0,
                max: 255,
                policy: Requantize::FloatScaleZeroPointAfter,
            };
            let us = best_us(|| {
                conv.run(
                    QuantizedSlice::U8(&x),
                    &g,
                    100,
                    &epilogue,
                    QuantizedSliceMut::U8(&mut out),
                )
            });
            println!("{name}\t{us:.1}\t{:.0} GOP/s", gmacs * 2e6 / us);
        }
    }
}
