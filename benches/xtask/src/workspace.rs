//! What cargo knows of this workspace.

use crate::packages::SYSTEM_FEATURES;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One crate of the workspace.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) features: Vec<String>,
    pub(crate) dependencies: Vec<String>,
}

/// The workspace.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    pub(crate) packages: Vec<Package>,
}

/// Features to build with, and those that this machine cannot build.
pub(crate) struct Features {
    /// As `crate/feature`.
    pub(crate) on: Vec<String>,
    /// Feature name and what is missing.
    pub(crate) off: Vec<(String, String)>,
}

impl Features {
    /// Command-line arguments for cargo.
    pub(crate) fn args(&self) -> Vec<String> {
        match self.on.is_empty() {
            true => vec![],
            false => vec!["--features".to_owned(), self.on.join(",")],
        }
    }
}

/// The folder with the workspace's Cargo.toml.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_path_buf()
}

/// cargo, as the one that runs this program.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

impl Workspace {
    /// Asks cargo.
    pub(crate) fn load() -> anyhow::Result<Workspace> {
        let args = ["metadata", "--no-deps", "--format-version", "1"];
        let output = cargo().args(args).output().context("cargo metadata could not be started")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cargo metadata failed: {}", said.trim());
        let json: Value =
            serde_json::from_slice(&output.stdout).context("cargo metadata did not answer JSON")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let package = |value: &Value| Package {
            name: text(&value["name"]),
            features: value["features"].as_object().map(|f| f.keys().cloned().collect()).unwrap_or_default(),
            dependencies: list(&value["dependencies"]).iter().map(|d| text(&d["name"])).collect(),
        };
        Ok(Workspace {
            root: root(),
            target: PathBuf::from(text(&json["target_directory"])),
            packages: list(&json["packages"]).iter().map(package).collect(),
        })
    }

    /// Features of all crates (or those of `only` and its direct dependencies) that this machine can build.
    pub(crate) fn features(&self, only: Option<&str>) -> Features {
        let root = only.and_then(|name| self.packages.iter().find(|package| package.name == name));
        let wanted = |package: &Package| match root {
            Some(root) => package.name == root.name || root.dependencies.contains(&package.name),
            None => true,
        };
        let missing: Vec<_> =
            SYSTEM_FEATURES.iter().filter_map(|entry| Some((entry.feature, entry.missing()?))).collect();
        let mut features = Features { on: vec![], off: vec![] };
        for package in self.packages.iter().filter(|package| wanted(package)) {
            for feature in package.features.iter().filter(|feature| *feature != "default") {
                match missing.iter().find(|(name, _)| name == feature) {
                    None => features.on.push(format!("{}/{feature}", package.name)),
                    Some((name, why)) => features.off.push(((*name).to_owned(), why.clone())),
                }
            }
        }
        features.off.sort();
        features.off.dedup();
        features
    }

    /// A binary of the dev profile.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.target.join("debug").join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_and_its_features_are_found() {
        let workspace = Workspace::load().expect("cargo metadata");
        assert!(workspace.root.join("Cargo.lock").exists());
        assert!(workspace.packages.iter().any(|package| package.name == "ironlane"));
        let all = workspace.features(None);
        assert!(all.on.len() + all.off.len() > 0);
        assert!(all.on.iter().all(|feature| feature.contains('/') && !feature.ends_with("/default")));
        let node = workspace.features(Some("ironlane"));
        assert!(node.on.iter().all(|feature| all.on.contains(feature)));
    }
}
