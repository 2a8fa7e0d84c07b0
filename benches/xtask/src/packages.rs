//! Which Debian package which feature needs, and whether this machine has it.

use std::process::Command;

/// A cargo feature that needs something of the system.
pub(crate) struct SystemFeature {
    /// Feature name, the same in every crate that has it.
    pub(crate) feature: &'static str,
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// Debian packages.
    pub(crate) packages: &'static [&'static str],
    /// Modules that pkg-config must know; pkg-config itself is among the packages.
    pub(crate) modules: &'static [&'static str],
}

/// All of them. A feature that is not here needs rustc and gcc alone.
pub(crate) const SYSTEM_FEATURES: &[SystemFeature] = &[
    SystemFeature {
        feature: "hwloc",
        purpose: "CPU topology through hwloc, compared with sysfs (hwlocality links libudev too)",
        packages: &["libhwloc-dev", "libudev-dev", "pkg-config"],
        modules: &["hwloc", "libudev"],
    },
    SystemFeature {
        feature: "opencl",
        purpose: "recovery and Keccak-256 over OpenCL; PoCL runs the kernels on the CPU, for the tests",
        packages: &["ocl-icd-opencl-dev", "pocl-opencl-icd", "pkg-config"],
        modules: &["OpenCL"],
    },
];

/// A program that a test or a report starts, and without which it is skipped.
pub(crate) struct Tool {
    /// What it is for.
    pub(crate) purpose: &'static str,
    /// Debian packages.
    pub(crate) packages: &'static [&'static str],
}

/// All of them.
pub(crate) const TOOLS: &[Tool] = &[Tool {
    purpose: "the RTL reference: simulation with Verilator, estimate with yosys, microcode with python3",
    packages: &["verilator", "yosys", "g++", "make", "python3"],
}];

impl SystemFeature {
    /// What the build would not find; `None` when all is there.
    pub(crate) fn missing(&self) -> Option<String> {
        for module in self.modules {
            match Command::new("pkg-config").args(["--exists", module]).status() {
                Ok(status) if status.success() => {}
                Ok(_) => return Some(format!("pkg-config does not know {module}")),
                Err(_) => return Some("pkg-config is not installed".to_owned()),
            }
        }
        None
    }
}

/// Whether dpkg has the package.
pub(crate) fn is_installed(package: &str) -> bool {
    let query = Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]).output();
    query.is_ok_and(|output| output.status.success() && output.stdout == b"installed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_in_the_table_exists_in_the_workspace() {
        let workspace = crate::workspace::Workspace::load().expect("cargo metadata");
        for entry in SYSTEM_FEATURES {
            let known = workspace.packages.iter().any(|p| p.features.iter().any(|f| f == entry.feature));
            assert!(known, "no crate has the feature {}", entry.feature);
            assert!(!entry.packages.is_empty() && !entry.purpose.is_empty());
        }
    }

    #[test]
    fn a_package_that_does_not_exist_is_not_installed() {
        assert!(!is_installed("no-such-package-anywhere"));
    }
}
