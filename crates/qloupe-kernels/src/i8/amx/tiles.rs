//! The AMX instructions: configuration, products and stores of tiles.
//!
//! Tile registers 0 to 3 accumulate two tiles of pixels times two of output channels, 4 and 5 hold activations, 6 and 7
//! weights. The compiler has no notion of these registers and never uses them, so that they keep their contents from one
//! of these functions to the next.

use std::arch::asm;

/// What LDTILECFG reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Tiles configured on this thread, until dropped.
pub(super) struct Tiles(());

impl Tiles {
    /// Tiles of `n_pixels` pixels and `chunk_steps` steps of four bytes.
    ///
    /// # Safety
    /// The process may use AMX; the numbers are 1 to 16.
    pub(super) unsafe fn configure(n_pixels: usize, chunk_steps: usize) -> Self {
        let mut config = Config {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        for tile in 0..8 {
            let is_weight = tile >= 6;
            let is_activation = tile == 4 || tile == 5;
            config.rows[tile] = if is_weight { chunk_steps } else { n_pixels } as u8;
            config.row_bytes[tile] = if is_activation { 4 * chunk_steps as u16 } else { 64 };
        }
        // SAFETY: the caller's; the configuration is valid for palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly, preserves_flags)) };
        Self(())
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: the tiles were configured, so that the process may use AMX.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
    }
}

/// Sets the accumulators to 0.
///
/// # Safety
/// Tiles are configured.
#[inline(always)]
pub(super) unsafe fn start() {
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            options(nostack, nomem, preserves_flags)
        );
    }
}

/// Adds the products of one chunk: `NT` tiles of pixels times `NV` tiles of channels.
///
/// # Safety
/// Tiles are configured; every pixel has a chunk to read, and the weights are those of one chunk.
#[inline(always)]
pub(super) unsafe fn multiply<const SIGNED: bool, const NT: usize, const NV: usize>(
    x: [*const u8; 2],
    pixel_stride: usize,
    weight: *const i8,
    tile_bytes: usize,
) {
    macro_rules! lines {
        ($($line:expr),*) => {
            asm!(
                $($line),*,
                x0 = in(reg) x[0], x1 = in(reg) x[1], stride = in(reg) pixel_stride,
                w0 = in(reg) weight, w1 = in(reg) weight.wrapping_add(tile_bytes), line = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly, preserves_flags)
            )
        };
    }
    macro_rules! products {
        ($dot:literal) => {
            match (NT, NV) {
                (2, 2) => lines!(
                    "tileloadd tmm6, [{w0} + {line}]",
                    "tileloadd tmm4, [{x0} + {stride}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{w1} + {line}]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "tileloadd tmm5, [{x1} + {stride}]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    concat!($dot, " tmm3, tmm5, tmm7")
                ),
                (2, _) => lines!(
                    "tileloadd tmm6, [{w0} + {line}]",
                    "tileloadd tmm4, [{x0} + {stride}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm5, [{x1} + {stride}]",
                    concat!($dot, " tmm2, tmm5, tmm6"),
                    "/* {w1} */"
                ),
                (_, 2) => lines!(
                    "tileloadd tmm6, [{w0} + {line}]",
                    "tileloadd tmm4, [{x0} + {stride}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "tileloadd tmm7, [{w1} + {line}]",
                    concat!($dot, " tmm1, tmm4, tmm7"),
                    "/* {x1} */"
                ),
                _ => lines!(
                    "tileloadd tmm6, [{w0} + {line}]",
                    "tileloadd tmm4, [{x0} + {stride}]",
                    concat!($dot, " tmm0, tmm4, tmm6"),
                    "/* {x1} {w1} */"
                ),
            }
        };
    }
    // SAFETY: the caller's.
    unsafe {
        if SIGNED {
            products!("tdpbssd")
        } else {
            products!("tdpbusd")
        }
    }
}

/// Stores the accumulators of tile `T` of pixels, 16 rows of `row_bytes`: 16 channels of each of `NV` tiles.
///
/// # Safety
/// Tiles are configured; `to` has 16 rows.
#[inline(always)]
pub(super) unsafe fn store<const T: usize, const NV: usize>(to: *mut i32, row_bytes: usize) {
    macro_rules! store {
        ($tile:literal, $at:literal) => {
            asm!(
                concat!("tilestored [{to} + {stride} + ", $at, "], ", $tile),
                to = in(reg) to, stride = in(reg) row_bytes,
                options(nostack, preserves_flags)
            )
        };
    }
    // SAFETY: the caller's.
    unsafe {
        match (T, NV) {
            (0, 1) => store!("tmm0", "0"),
            (0, _) => {
                store!("tmm0", "0");
                store!("tmm1", "64");
            }
            (_, 1) => store!("tmm2", "0"),
            _ => {
                store!("tmm2", "0");
                store!("tmm3", "64");
            }
        }
    }
}
