//! Unrolling loops over register arrays, which the compiler otherwise keeps in memory at some sizes.

/// Repeats `$body` with the constant `$index` = 0, 1, .. while it is below `$end`; the leading number is the most that
/// `$end` can be, which bounds what the compiler has to read.
macro_rules! unroll {
    (4, $($rest:tt)*) => { $crate::unroll::unroll!(@ [0 1 2 3] $($rest)*) };
    (6, $($rest:tt)*) => { $crate::unroll::unroll!(@ [0 1 2 3 4 5] $($rest)*) };
    (8, $($rest:tt)*) => { $crate::unroll::unroll!(@ [0 1 2 3 4 5 6 7] $($rest)*) };
    (24, $($rest:tt)*) => {
        $crate::unroll::unroll!(@ [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23] $($rest)*)
    };
    (@ [$($i:literal)*] $index:ident < $end:expr, $body:block) => {
        $crate::unroll::unroll!(@ $index, $end, $body, $($i)*)
    };
    (@ $index:ident, $end:expr, $body:block, $($i:literal)*) => {
        $({
            const $index: usize = $i;
            if $index < $end $body
        })*
    };
}
pub(crate) use unroll;
