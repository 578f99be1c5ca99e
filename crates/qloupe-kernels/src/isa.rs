//! Which instruction set the kernels use: detected once, or forced by the environment variable `QLOUPE_ISA`.
//!
//! All of them give the same bits; the choice is one of speed only.

use std::sync::OnceLock;

use crate::tile_permission::{TilePermission, tile_permission};

/// The environment variable that forces an instruction set.
const ISA_VARIABLE: &str = "QLOUPE_ISA";

/// An instruction set with its own kernels, slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, any machine: the specification of the others.
    Scalar,
    /// x86-64 AVX2 and FMA.
    Avx2,
    /// x86-64 AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX-512 with the int8 dot product instructions.
    Vnni,
    /// `Vnni` with the int8 tile products of AMX.
    Amx,
}

impl Isa {
    /// Every instruction set, slowest first.
    pub const ALL: [Self; 5] = [Self::Scalar, Self::Avx2, Self::Avx512, Self::Vnni, Self::Amx];

    /// The name that `QLOUPE_ISA` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Vnni => "vnni",
            Self::Amx => "amx",
        }
    }

    /// True when this machine can run it.
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx2 = has!("avx2") && has!("fma") && has!("f16c");
            let avx512 = avx2 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            let vnni = avx512 && has!("avx512vnni");
            match self {
                Self::Scalar => true,
                Self::Avx2 => avx2,
                Self::Avx512 => avx512,
                Self::Vnni => vnni,
                Self::Amx => vnni && tile_permission() == TilePermission::Granted,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Scalar
        }
    }

    /// The instruction sets that this machine can run.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The instruction set that `QLOUPE_ISA` names, or else the fastest that this machine can run.
    ///
    /// # Errors
    /// A text for the user when the variable names an unknown or unavailable instruction set.
    pub fn detect() -> Result<Self, String> {
        match std::env::var(ISA_VARIABLE) {
            Ok(name) => Self::from_name(&name),
            Err(std::env::VarError::NotPresent) => Ok(Self::fastest()),
            Err(std::env::VarError::NotUnicode(name)) => Err(unknown(&name.to_string_lossy())),
        }
    }

    fn from_name(name: &str) -> Result<Self, String> {
        let isa = Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| unknown(name))?;
        if isa.is_available() {
            Ok(isa)
        } else {
            let why = if isa == Self::Amx && tile_permission() == TilePermission::Refused {
                "the system refuses the use of"
            } else {
                "this machine cannot run"
            };
            Err(format!(
                "{ISA_VARIABLE}: {why} {name:?}, expected one of {}",
                names(Self::available())
            ))
        }
    }

    /// What the user should know of the choice: that the machine could be used better than the system allows.
    pub fn notice() -> Option<String> {
        let is_forced = std::env::var_os(ISA_VARIABLE).is_some();
        (!is_forced && tile_permission() == TilePermission::Refused).then(|| refused(Self::fastest()))
    }

    fn fastest() -> Self {
        Self::available().last().unwrap_or(Self::Scalar)
    }

    /// Panics unless this machine can run it; every safe entry with an explicit instruction set calls this.
    pub(crate) fn require(self) -> Self {
        assert!(
            self.is_available(),
            "instruction set {} is not available on this machine",
            self.name()
        );
        self
    }
}

fn refused(instead: Isa) -> String {
    format!(
        "the machine has AMX, but the system refuses its use; {} is used instead",
        instead.name()
    )
}

fn names(choices: impl Iterator<Item = Isa>) -> String {
    choices.map(Isa::name).collect::<Vec<_>>().join(", ")
}

fn unknown(name: &str) -> String {
    format!(
        "{ISA_VARIABLE}: unknown instruction set, expected one of {}, got {name:?}",
        names(Isa::ALL.into_iter())
    )
}

/// The instruction set of this process, chosen at the first call.
///
/// A caller that wants the user to hear of a wrong `QLOUPE_ISA` asks [`Isa::detect`] at its start; here a wrong value
/// falls back to the fastest available, which gives the same bits.
pub fn isa() -> Isa {
    static CHOSEN: OnceLock<Isa> = OnceLock::new();
    *CHOSEN.get_or_init(|| Isa::detect().unwrap_or_else(|_| Isa::fastest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_unknown_ones_are_listed() {
        assert_eq!(Isa::from_name("scalar"), Ok(Isa::Scalar));
        assert_eq!(
            Isa::from_name("sse").unwrap_err(),
            "QLOUPE_ISA: unknown instruction set, expected one of scalar, avx2, avx512, vnni, amx, got \"sse\""
        );
    }

    #[test]
    fn a_refusal_names_what_is_used_instead() {
        assert_eq!(
            refused(Isa::Vnni),
            "the machine has AMX, but the system refuses its use; vnni is used instead"
        );
    }

    #[test]
    fn the_chosen_one_is_available() {
        assert!(isa().is_available(), "{:?}", isa());
        println!("instruction sets tested here: {}", names(Isa::available()));
    }
}
