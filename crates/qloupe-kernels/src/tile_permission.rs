//! Whether this process can use AMX tiles: what the processor has, and what the system permits.
//!
//! The state of the tiles is large, so that Linux saves it only for processes that ask for it.

/// What stands between this process and AMX int8 products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TilePermission {
    /// The machine has none.
    Absent,
    /// The machine has them, the system refuses their use.
    Refused,
    /// They can be used.
    Granted,
}

/// Asks once; later calls give the same answer.
pub(crate) fn tile_permission() -> TilePermission {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    {
        static ANSWER: std::sync::OnceLock<TilePermission> = std::sync::OnceLock::new();
        *ANSWER.get_or_init(|| {
            if !linux::machine_has_tiles() {
                TilePermission::Absent
            } else if linux::system_saves_tiles() && linux::request() {
                TilePermission::Granted
            } else {
                TilePermission::Refused
            }
        })
    }
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    {
        TilePermission::Absent
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod linux {
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    /// CPUID leaf 7, EDX: AMX-TILE and AMX-INT8.
    const TILES_AND_INT8: u32 = 1 << 24 | 1 << 25;
    /// CPUID leaf 1, ECX: the system uses XSAVE.
    const OSXSAVE: u32 = 1 << 27;
    /// XCR0: configuration and data of the tiles.
    const TILE_STATE: u64 = 1 << 17 | 1 << 18;
    /// The system call `arch_prctl`, its request for a permission, and the state that is asked for: tile data.
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;

    pub(super) fn machine_has_tiles() -> bool {
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & TILES_AND_INT8 == TILES_AND_INT8
    }

    pub(super) fn system_saves_tiles() -> bool {
        #[target_feature(enable = "xsave")]
        fn enabled_states() -> u64 {
            // SAFETY: XSAVE is enabled for this function.
            unsafe { _xgetbv(0) }
        }
        // SAFETY: the system uses XSAVE.
        __cpuid(1).ecx & OSXSAVE != 0 && unsafe { enabled_states() } & TILE_STATE == TILE_STATE
    }

    pub(super) fn request() -> bool {
        let mut result = ARCH_PRCTL;
        // SAFETY: the call changes the permissions of this process only; a system that does not know it says so. The
        // registers are those of the calling convention of Linux.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack)
            );
        }
        result == 0
    }
}
