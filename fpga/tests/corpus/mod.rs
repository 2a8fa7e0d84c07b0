//! Finds files of the conformance corpus: `$IRONLANE_CORPUS`, or `../shared/corpus` seen from the workspace. An archive
//! is unpacked once, into `target/corpus/NAME`.

use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> PathBuf {
    let mut folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    while !folder.join("Cargo.lock").exists() {
        folder = folder.parent().expect("a crate lies inside its workspace");
    }
    folder.to_path_buf()
}

/// The folder with the contents of `NAME.tar.xz`, or `None`, after saying why, where the corpus is missing.
pub(crate) fn unpacked(name: &str) -> Option<PathBuf> {
    let corpus = std::env::var_os("IRONLANE_CORPUS")
        .map_or_else(|| workspace().join("../shared/corpus"), PathBuf::from);
    let archive = corpus.join(format!("{name}.tar.xz"));
    if !archive.exists() {
        eprintln!(
            "skipped: {} is missing; set IRONLANE_CORPUS to the folder that holds it",
            archive.display()
        );
        return None;
    }
    let home = workspace().join("target/corpus");
    let folder = home.join(name);
    if folder.exists() {
        return Some(folder);
    }
    // Tests run in parallel: each unpacks for itself, and the first to rename wins.
    let own = home.join(format!(".{name}.{}.{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&own).expect("target/corpus can be made");
    let unpacked = Command::new("tar").arg("-xJf").arg(&archive).arg("-C").arg(&own).status();
    assert!(unpacked.expect("tar is installed").success(), "tar cannot unpack {}", archive.display());
    if std::fs::rename(&own, &folder).is_err() {
        assert!(folder.exists(), "{} cannot be renamed", own.display());
        std::fs::remove_dir_all(&own).expect("a folder of our own can be removed");
    }
    Some(folder)
}

/// The decompressed contents of an `.xz` file.
#[allow(dead_code, reason = "not every test that includes this module reads compressed files")]
pub(crate) fn unxz(path: &Path) -> String {
    let output = Command::new("xz").arg("-dc").arg(path).output().expect("xz is installed");
    assert!(output.status.success(), "xz cannot read {}", path.display());
    String::from_utf8(output.stdout).expect("the file is text")
}
