//! Where the conformance corpus lies, unpacked.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder that holds the unpacked archive, or `None` (said on stderr) where the corpus is missing.
pub(crate) fn corpus(archive: &str) -> Option<PathBuf> {
    let source = std::env::var_os("IRONLANE_CORPUS")
        .map_or_else(|| workspace().join("../shared/corpus"), PathBuf::from)
        .join(format!("{archive}.tar.xz"));
    if !source.exists() {
        eprintln!(
            "skipped: {} is not there (set IRONLANE_CORPUS to the folder with the archives)",
            source.display()
        );
        return None;
    }
    let root = workspace().join("target/corpus");
    let unpacked = root.join(archive);
    if unpacked.exists() {
        return Some(unpacked);
    }
    std::fs::create_dir_all(&root).expect("target/corpus can be made");
    // Tests run side by side: each unpacks apart, and the first to finish gives its folder the name.
    let own = tempfile::tempdir_in(&root).expect("a folder can be made");
    let tar =
        Command::new("tar").arg("xf").arg(&source).arg("-C").arg(own.path()).status().expect("tar runs");
    assert!(tar.success(), "tar failed on {}", source.display());
    let own = own.keep();
    if std::fs::rename(&own, &unpacked).is_err() {
        std::fs::remove_dir_all(&own).expect("an own folder can be removed");
    }
    Some(unpacked)
}
