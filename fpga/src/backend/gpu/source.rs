//! The kernels' source: one text for CUDA and OpenCL, put together from `fpga/kernels`.

const FILES: [&str; 7] = [
    include_str!("../../../kernels/platform.h"),
    include_str!("../../../kernels/words.h"),
    include_str!("../../../kernels/field.h"),
    include_str!("../../../kernels/scalar.h"),
    include_str!("../../../kernels/curve.h"),
    include_str!("../../../kernels/keccak.h"),
    include_str!("../../../kernels/recover.h"),
];

/// Kernels of single operations, for tests of the arithmetic.
const ARITHMETIC: &str = include_str!("../../../kernels/arithmetic.h");

/// What the source can be built with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// Items of a work-group, a power of two.
    pub group: u32,
    /// Bits of a window of the generator's table: 8, 12 or 16.
    pub g_window: u32,
    /// Calls in place of inlined code, for compilers of CPUs.
    pub small: bool,
    /// With the kernels of single operations.
    pub arithmetic: bool,
}

impl Build {
    /// For GPUs: the table of 2^15 points (2 MiB) stays in their second-level cache.
    pub const GPU: Build = Build { group: 128, g_window: 16, small: false, arithmetic: false };
    /// For processors that speak OpenCL: small groups and a table that is made in milliseconds.
    pub const CPU: Build = Build { group: 16, g_window: 8, small: true, arithmetic: false };

    /// Points in the generator's table.
    pub const fn table_points(&self) -> usize {
        1 << (self.g_window - 1)
    }

    /// The source, with the build's constants at its head.
    pub fn source(&self) -> String {
        let mut text = format!("#define GROUP {}\n#define G_WINDOW {}\n", self.group, self.g_window);
        if self.small {
            text.push_str("#define SMALL\n");
        }
        for file in FILES {
            text.push_str(file);
        }
        if self.arithmetic {
            text.push_str(ARITHMETIC);
        }
        text
    }
}

const _: () = {
    let builds = [Build::GPU, Build::CPU];
    let mut i = 0;
    while i < builds.len() {
        let b = builds[i];
        assert!(b.group.is_power_of_two() && b.group >= 2);
        // The generator's windows begin where windows of R begin, four bits apart.
        assert!(b.g_window.is_multiple_of(4) && b.g_window >= 8 && b.g_window <= 16);
        // The table's kernel has no items beyond the table.
        assert!((b.table_points() as u32).is_multiple_of(b.group));
        i += 1;
    }
};
