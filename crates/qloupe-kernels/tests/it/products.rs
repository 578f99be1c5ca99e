//! Float products and transposed convolutions.

use proptest::prelude::*;
use qloupe_kernels::{
    ConvGeometry, ConvTransposeF32, ConvTransposeGeometry, GemmF32, Isa, batched_matmul_f32, matmul_f32,
};

use crate::conv_f32::BASE;
use crate::values::{first_difference, floats};

#[test]
fn a_product_is_one_chain_of_multiply_adds() {
    for (m, k, n) in [
        (1, 1, 1),
        (3, 5, 17),
        (65, 64, 33),
        (2, 1000, 40),
        (57, 31, 64),
        (1, 300, 100),
        (0, 4, 4),
        (4, 0, 3),
    ] {
        let (a, b, bias) = (floats(m * k, 1), floats(k * n, 2), floats(n, 3));
        let chain = |start: &[f32]| -> Vec<f32> {
            (0..m * n)
                .map(|i| {
                    (0..k).fold(start[i % n], |acc, j| {
                        a[i / n * k + j].mul_add(b[j * n + i % n], acc)
                    })
                })
                .collect()
        };
        for isa in Isa::available() {
            let mut out = vec![9.0; m * n];
            GemmF32::with_isa(isa, &b, k, n, Some(&bias)).run(&a, m, &mut out);
            assert_eq!(
                first_difference(&out, &chain(&bias)),
                None,
                "{} {m} {k} {n}",
                isa.name()
            );
        }
        let mut out = vec![9.0; m * n];
        matmul_f32(&a, &b, m, k, n, &mut out);
        assert_eq!(first_difference(&out, &chain(&vec![0.0; n])), None, "{m} {k} {n}");
    }
}

#[test]
fn batches_share_a_broadcast_operand() {
    let (m, k, n) = (3, 20, 70);
    let (a, b) = (floats(4 * m * k, 1), floats(k * n, 2));
    let offsets: Vec<_> = (0..4).map(|i| (i * m * k, 0)).collect();
    let (mut out, mut all) = (vec![0.0; 4 * m * n], vec![0.0; 4 * m * n]);
    batched_matmul_f32(&a, &b, &offsets, m, k, n, &mut out);
    matmul_f32(&a, &b, 4 * m, k, n, &mut all);
    assert_eq!(first_difference(&out, &all), None);
}

fn compare(g: &ConvTransposeGeometry) {
    let c = &g.conv;
    let (icg, ocg) = (c.ic / c.group, c.oc / c.group);
    let weight = floats(c.ic * ocg * c.kh * c.kw, 1);
    let bias = floats(c.oc, 2);
    let x = floats(c.n_inputs(), 3);
    let run = |isa| {
        let mut out = vec![9.0; g.n_outputs()];
        ConvTransposeF32::with_isa(isa, &weight, Some(&bias), c.ic, ocg, c.kh, c.kw, c.group).run(
            &x,
            g,
            (-0.5, f32::INFINITY),
            &mut out,
        );
        out
    };
    let expected = run(Isa::Scalar);
    for isa in Isa::available() {
        assert_eq!(
            first_difference(&expected, &run(isa)),
            None,
            "{} {icg} {g:?}",
            isa.name()
        );
    }
    // The definition: every input pixel is scattered through the kernel; here without an order, so nearly.
    let (oh, ow) = (g.oh(), g.ow());
    let mut sums: Vec<f64> = (0..g.n_outputs()).map(|i| f64::from(bias[i % c.oc])).collect();
    for (i, &value) in x.iter().enumerate() {
        let (pixel, channel) = (i / c.ic, i % c.ic);
        let (n, iy, ix) = (pixel / c.iw / c.ih, pixel / c.iw % c.ih, pixel % c.iw);
        for tap in 0..c.kh * c.kw {
            let oy = (iy * c.stride_h + tap / c.kw * c.dilation_h).wrapping_sub(c.pad_top);
            let ox = (ix * c.stride_w + tap % c.kw * c.dilation_w).wrapping_sub(c.pad_left);
            if oy < oh && ox < ow {
                for o in 0..ocg {
                    let w = weight[(channel * ocg + o) * c.kh * c.kw + tap];
                    sums[((n * oh + oy) * ow + ox) * c.oc + channel / icg * ocg + o] +=
                        f64::from(value) * f64::from(w);
                }
            }
        }
    }
    let near = |(&got, &sum): (&f32, &f64)| (f64::from(got) - sum.max(-0.5)).abs() < 1e-4;
    assert!(
        expected.iter().zip(&sums).all(near),
        "not a transposed convolution: {g:?}"
    );
}

prop_compose! {
    fn any_transposed()(
        (n, ih, iw) in (1_usize..3, 1_usize..9, 1_usize..20),
        (group, icg, ocg) in (1_usize..3, 1_usize..9, 1_usize..40),
        (kh, kw) in (1_usize..5, 1_usize..5),
        (stride_h, stride_w, dilation_h, dilation_w) in (1_usize..4, 1_usize..4, 1_usize..3, 1_usize..3),
        (pad_top, pad_left, pad_bottom, pad_right) in (0_usize..3, 0_usize..3, 0_usize..3, 0_usize..3),
        (output_padding_h, output_padding_w) in (0_usize..2, 0_usize..2),
    ) -> ConvTransposeGeometry {
        let conv = ConvGeometry {
            n, ih, iw, ic: group * icg, oc: group * ocg, kh, kw, stride_h, stride_w, dilation_h, dilation_w,
            pad_top, pad_left, pad_bottom, pad_right, group,
        };
        ConvTransposeGeometry { conv, output_padding_h, output_padding_w }
    }
}

proptest! {
    #[test]
    fn transposed_convolutions_agree_on_any_geometry(g in any_transposed()) {
        compare(&g);
    }
}

#[test]
fn upsampling_by_two() {
    let conv = ConvGeometry {
        ih: 20,
        iw: 20,
        ic: 32,
        oc: 40,
        kh: 2,
        kw: 2,
        stride_h: 2,
        stride_w: 2,
        pad_top: 0,
        pad_left: 0,
        pad_bottom: 0,
        pad_right: 0,
        ..BASE
    };
    compare(&ConvTransposeGeometry {
        conv,
        output_padding_h: 0,
        output_padding_w: 0,
    });
}
