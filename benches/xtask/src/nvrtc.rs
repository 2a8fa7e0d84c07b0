//! NVRTC, NVIDIA's compiler as a library, from the Python package index: the tests compile the CUDA kernels with it, on
//! machines without a GPU too. It goes into the target folder, where programs and tests of this build find it.

use crate::process;
use crate::workspace::Workspace;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Knows sm_50 to sm_121.
const WHEEL: &str = "nvidia-cuda-nvrtc-cu12==12.9.86";
const LIBRARY: &str = "nvidia/cuda_nvrtc/lib/libnvrtc.so.12";
/// The wheel has 90 MB.
const LIMIT: Duration = Duration::from_secs(300);

fn folder() -> Result<PathBuf, String> {
    Ok(Workspace::load().map_err(|error| format!("{error:#}"))?.target.join("nvrtc"))
}

/// Whether it is there, and where.
pub(crate) fn installed() -> Option<PathBuf> {
    folder().ok().filter(|folder| folder.join(LIBRARY).is_file())
}

/// Fetches it if it is not there; answers where it is, or why there is none.
pub(crate) fn install() -> Result<PathBuf, String> {
    let folder = folder()?;
    if folder.join(LIBRARY).is_file() {
        return Ok(folder);
    }
    // The wheel holds libraries for x86-64 and aarch64; other machines have no CUDA.
    let mut pip = Command::new("python3");
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "--upgrade",
        "--target",
    ]);
    pip.arg(&folder).arg(WHEEL);
    let finished = process::run(&mut pip, LIMIT, true)
        .map_err(|error| format!("{error:#}; python3 with pip is needed (python3-pip)"))?;
    match folder.join(LIBRARY).is_file() {
        true => Ok(folder),
        false => {
            let said = finished.lines.iter().rev().find(|line| line.contains("rror")).cloned();
            Err(format!("pip could not fetch {WHEEL}: {}", said.unwrap_or(finished.reason)))
        }
    }
}
