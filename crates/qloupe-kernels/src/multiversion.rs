//! Compiling one loop for several instruction sets, so that the compiler vectorizes it for each.

/// Defines `fn name(isa, ..)` that runs the body compiled for `isa`.
///
/// The body must be a loop that the compiler can vectorize; what it calls must be `#[inline(always)]`.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $([$($generics:tt)*])? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name $(<$($generics)*>)? (isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn portable $(<$($generics)*>)? ($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2 $(<$($generics)*>)? ($($arg: $ty),*) $(-> $ret)? {
                portable($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma,f16c")]
            fn avx512 $(<$($generics)*>)? ($($arg: $ty),*) $(-> $ret)? {
                portable($($arg),*)
            }
            match isa {
                $crate::Isa::Scalar => portable($($arg),*),
                #[cfg(target_arch = "x86_64")]
                // SAFETY: an `Isa` that reaches a kernel was detected or passed `Isa::require`.
                $crate::Isa::Avx2 => unsafe { avx2($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                _ => unsafe { avx512($($arg),*) },
                #[cfg(not(target_arch = "x86_64"))]
                _ => portable($($arg),*),
            }
        }
    };
}
pub(crate) use multiversion;
