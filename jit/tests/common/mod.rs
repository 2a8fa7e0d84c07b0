//! Where the corpus lies, unpacked.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The unpacked contracts of the corpus; where there is no corpus, says so and gives none.
pub(crate) fn contracts() -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let source = std::env::var_os("IRONLANE_CORPUS")
        .map_or_else(|| workspace.join("../shared/corpus"), PathBuf::from)
        .join("contracts-dev.tar.xz");
    if !source.is_file() {
        println!(
            "skipped: {} is not there (set IRONLANE_CORPUS to the folder with the archives)",
            source.display()
        );
        return None;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    let folder = target.join("corpus/contracts-dev");
    if !folder.is_dir() {
        let partial = target.join(format!("corpus/contracts-dev.{}", std::process::id()));
        fs::create_dir_all(&partial).expect("the target folder can be written");
        let status = Command::new("tar").arg("-xJf").arg(&source).arg("-C").arg(&partial).status();
        assert!(status.is_ok_and(|status| status.success()), "tar cannot unpack {}", source.display());
        // Another process may have been faster.
        if fs::rename(&partial, &folder).is_err() {
            fs::remove_dir_all(&partial).expect("what was unpacked can be removed");
        }
    }
    Some(folder.join("contracts"))
}
