//! Which instruction set computes. Owns the detection: a [`Path`] is the proof that this CPU has what its kernels use.

/// The kernels to use, as this CPU allows. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 512-bit vectors with byte dot products (Ice Lake, Zen 4 and later).
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// 256-bit vectors with byte dot products (Alder Lake and later).
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// 256-bit vectors (Haswell, Zen and later).
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// What the compiler makes of plain code. Right anywhere; slow where the CPU has no fused multiply-add.
    Portable,
}

impl Path {
    /// The fastest one here.
    #[must_use]
    pub fn best() -> Self {
        Self::available().next().unwrap_or(Self(Kind::Portable))
    }

    /// All that this CPU can run, the fastest first; the last is always `portable`.
    pub fn available() -> impl Iterator<Item = Self> {
        [
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx512Vnni, has_avx512()),
            #[cfg(target_arch = "x86_64")]
            (Kind::AvxVnni, has_avx2() && is_x86_feature_detected!("avxvnni")),
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx2, has_avx2()),
            (Kind::Portable, true),
        ]
        .into_iter()
        .filter_map(|(kind, here)| here.then_some(Self(kind)))
    }

    /// Its name for people and logs: `avx512vnni`, `avxvnni`, `avx2` or `portable`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512Vnni => "avx512vnni",
            #[cfg(target_arch = "x86_64")]
            Kind::AvxVnni => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            Kind::Portable => "portable",
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        self.0
    }
}

/// What the 512-bit kernels and [`on_path`] enable.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    has_avx2()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

/// What the 256-bit kernels and [`on_path`] enable.
#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// One function in plain Rust, compiled once for every instruction set and chosen by a [`Path`]. Rust neither reorders nor
/// fuses floating point operations on its own, so all of them give the same bits. What the body calls must be
/// `#[inline(always)]` to be compiled along with it.
macro_rules! on_path {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name(path: $crate::Path, $($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($arg: $type),*) {
                body($($arg),*);
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            fn avx2($($arg: $type),*) {
                body($($arg),*);
            }

            use $crate::path::Kind;
            match path.kind() {
                // SAFETY: a path of this kind exists only where `has_avx512` found these features.
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512Vnni => unsafe { avx512($($arg),*) },
                // SAFETY: a path of these kinds exists only where `has_avx2` found these features.
                #[cfg(target_arch = "x86_64")]
                Kind::AvxVnni | Kind::Avx2 => unsafe { avx2($($arg),*) },
                Kind::Portable => body($($arg),*),
            }
        }
    };
}
pub(crate) use on_path;
