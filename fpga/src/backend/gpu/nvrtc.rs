#![allow(unsafe_code)]
//! NVRTC, NVIDIA's compiler as a library, loaded at run time. It needs no GPU and no driver.
//!
//! It is looked for, in this order: the path that the caller names; `$IRONLANE_NVRTC`, a file or a folder; the folder `nvrtc`
//! that `cargo xtask setup` fills in the build's target folder, seen from the running program; the loader's own paths; the
//! usual folders of a CUDA toolkit.

use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;

/// The environment variable that names the library or its folder.
pub const PATH_VARIABLE: &str = "IRONLANE_NVRTC";

const NAMES: [&str; 3] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
/// Below a folder that holds a toolkit or what pip unpacked.
const BELOW: [&str; 5] = ["", "lib64", "lib", "nvidia/cuda_nvrtc/lib", "nvidia/cu13/lib"];
const TOOLKITS: [&str; 3] = ["/usr/local/cuda", "/usr/lib/cuda", "/opt/cuda"];
const SYSTEM: [&str; 2] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];

/// Why NVRTC gave no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NvrtcError {
    /// There is no library.
    #[error(
        "NVRTC was not found ({looked}); run `cargo xtask setup`, install nvidia-cuda-nvrtc-cu12 with pip or a CUDA toolkit, or set {PATH_VARIABLE} to libnvrtc.so or its folder"
    )]
    Missing {
        /// What was tried.
        looked: String,
    },
    /// The library is not what it should be.
    #[error("{path} cannot be used as NVRTC: {reason}")]
    Unusable {
        /// The file.
        path: String,
        /// What was wrong.
        reason: String,
    },
    /// The source does not compile.
    #[error("NVRTC {version} does not compile the kernels for {target}: {log}")]
    Compile {
        /// Of NVRTC.
        version: String,
        /// What was asked for.
        target: String,
        /// The compiler's words.
        log: String,
    },
}

/// What to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Machine code for one architecture, as in sm_90.
    Cubin(u32),
    /// PTX for a virtual architecture, as in compute_90; the driver compiles it.
    Ptx(u32),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::Cubin(arch) => write!(f, "sm_{arch}"),
            Target::Ptx(arch) => write!(f, "compute_{arch}"),
        }
    }
}

type Program = *mut c_void;
type Status = c_int;

// SAFETY: as nvrtc.h declares them: pointers are valid, texts end with a zero, a program was created and not destroyed.
type VersionFn = unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status;
type TextFn = unsafe extern "C" fn(Status) -> *const c_char;
type NumbersFn = unsafe extern "C" fn(*mut c_int) -> Status;
type CompileFn = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Status;
type DestroyFn = unsafe extern "C" fn(*mut Program) -> Status;
type SizeFn = unsafe extern "C" fn(Program, *mut usize) -> Status;
type GetFn = unsafe extern "C" fn(Program, *mut c_char) -> Status;
type Texts = *const *const c_char;
type CreateFn =
    unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Texts, Texts) -> Status;

/// The library. Its functions may be called from any thread.
pub struct Nvrtc {
    version: VersionFn,
    error_string: TextFn,
    architecture_count: NumbersFn,
    architectures: NumbersFn,
    create: CreateFn,
    destroy: DestroyFn,
    compile: CompileFn,
    log: Output,
    ptx: Output,
    cubin: Output,
    path: PathBuf,
    // Last: the functions are in it.
    _library: Library,
}

/// A pair of functions, one that says how long a text is and one that writes it.
struct Output {
    size: SizeFn,
    get: GetFn,
}

impl Nvrtc {
    /// Finds and loads the library. `named`: a file or a folder that is looked at alone.
    ///
    /// # Errors
    /// [`NvrtcError::Missing`] or [`NvrtcError::Unusable`].
    pub fn find(named: Option<&Path>) -> Result<Nvrtc, NvrtcError> {
        let variable = std::env::var_os(PATH_VARIABLE).map(PathBuf::from);
        if let Some(named) = named.map(Path::to_path_buf).or(variable) {
            if named.is_file() {
                return Nvrtc::load(&named);
            }
            return match inside(&named) {
                Some(file) => Nvrtc::load(&file),
                None => Err(NvrtcError::Missing { looked: format!("nothing in {}", named.display()) }),
            };
        }
        if let Some(file) = beside_program() {
            return Nvrtc::load(&file);
        }
        for name in NAMES {
            if let Ok(found) = Nvrtc::load(Path::new(name)) {
                return Ok(found);
            }
        }
        let folders = TOOLKITS.iter().chain(&SYSTEM);
        match folders.clone().find_map(|folder| inside(Path::new(folder))) {
            Some(file) => Nvrtc::load(&file),
            None => {
                let folders: Vec<&str> = folders.copied().collect();
                Err(NvrtcError::Missing {
                    looked: format!("neither in the loader's paths nor in {}", folders.join(", ")),
                })
            }
        }
    }

    fn load(path: &Path) -> Result<Nvrtc, NvrtcError> {
        let unusable = |error: libloading::Error| NvrtcError::Unusable {
            path: path.display().to_string(),
            reason: error.to_string(),
        };
        // SAFETY: loading runs the library's initialisers; NVRTC's have no requirements. Whoever can put another library in
        // these places can replace this program too.
        let library = unsafe { Library::new(path) }.map_err(unusable)?;
        // SAFETY: the types are those of nvrtc.h, unchanged since CUDA 11.1; the library is kept as long as the functions.
        let loaded: Result<Nvrtc, libloading::Error> = unsafe {
            (|| {
                let output = |size: &[u8], get: &[u8]| {
                    Ok::<_, libloading::Error>(Output { size: *library.get(size)?, get: *library.get(get)? })
                };
                Ok(Nvrtc {
                    version: *library.get(b"nvrtcVersion")?,
                    error_string: *library.get(b"nvrtcGetErrorString")?,
                    architecture_count: *library.get(b"nvrtcGetNumSupportedArchs")?,
                    architectures: *library.get(b"nvrtcGetSupportedArchs")?,
                    create: *library.get(b"nvrtcCreateProgram")?,
                    destroy: *library.get(b"nvrtcDestroyProgram")?,
                    compile: *library.get(b"nvrtcCompileProgram")?,
                    log: output(b"nvrtcGetProgramLogSize", b"nvrtcGetProgramLog")?,
                    ptx: output(b"nvrtcGetPTXSize", b"nvrtcGetPTX")?,
                    cubin: output(b"nvrtcGetCUBINSize", b"nvrtcGetCUBIN")?,
                    path: path.to_path_buf(),
                    _library: library,
                })
            })()
        };
        loaded.map_err(unusable)
    }

    /// The file, as it was named to the loader.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// As in "12.9".
    pub fn version(&self) -> String {
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both places are valid for a write.
        unsafe { (self.version)(&mut major, &mut minor) };
        format!("{major}.{minor}")
    }

    /// Architectures that it knows, as in 90, ascending.
    pub fn architectures(&self) -> Vec<u32> {
        let mut count = 0;
        // SAFETY: the place is valid for a write.
        if unsafe { (self.architecture_count)(&mut count) } != 0 {
            return vec![];
        }
        let mut all = vec![0 as c_int; count.max(0) as usize];
        // SAFETY: the library writes as many as it has just said.
        if unsafe { (self.architectures)(all.as_mut_ptr()) } != 0 {
            return vec![];
        }
        let mut all: Vec<u32> = all.into_iter().filter_map(|arch| u32::try_from(arch).ok()).collect();
        all.sort_unstable();
        all
    }

    /// Compiles one source. `options` come after the architecture; with `--ptxas-options=-v` the second string tells
    /// registers and memory.
    ///
    /// # Errors
    /// [`NvrtcError::Compile`], with the compiler's log.
    pub fn compile(
        &self,
        source: &str,
        target: Target,
        options: &[&str],
    ) -> Result<(Vec<u8>, String), NvrtcError> {
        let refuse =
            |log: String| NvrtcError::Compile { version: self.version(), target: target.to_string(), log };
        let text = CString::new(source).map_err(|_| refuse("the source holds a zero byte".to_owned()))?;
        let mut arguments = vec![format!("--gpu-architecture={target}")];
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let arguments: Vec<CString> = arguments
            .into_iter()
            .map(|argument| {
                CString::new(argument).map_err(|_| refuse("an option holds a zero byte".to_owned()))
            })
            .collect::<Result<_, _>>()?;
        let pointers: Vec<*const c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
        let mut program = Owned { program: null_mut(), nvrtc: self };
        // SAFETY: both strings end with a zero; there are no headers.
        let status = unsafe {
            (self.create)(
                &mut program.program,
                text.as_ptr(),
                c"ironlane.cu".as_ptr(),
                0,
                null_mut(),
                null_mut(),
            )
        };
        if status != 0 {
            return Err(refuse(self.error(status)));
        }
        // SAFETY: the program was created above; there are as many options as said.
        let status = unsafe { (self.compile)(program.program, pointers.len() as c_int, pointers.as_ptr()) };
        let log = self.output(&program, &self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').trim().to_owned();
        if status != 0 {
            return Err(refuse(format!("{}\n{log}", self.error(status))));
        }
        let code = match target {
            Target::Cubin(_) => self.output(&program, &self.cubin),
            Target::Ptx(_) => self.output(&program, &self.ptx),
        };
        Ok((code.map_err(|status| refuse(self.error(status)))?, log))
    }

    fn output(&self, program: &Owned<'_>, output: &Output) -> Result<Vec<u8>, Status> {
        let mut length = 0;
        // SAFETY: the program is alive, and the place is valid for a write.
        let status = unsafe { (output.size)(program.program, &mut length) };
        if status != 0 {
            return Err(status);
        }
        let mut bytes = vec![0u8; length];
        // SAFETY: the library writes as many bytes as it has just said.
        match unsafe { (output.get)(program.program, bytes.as_mut_ptr().cast()) } {
            0 => Ok(bytes),
            status => Err(status),
        }
    }

    fn error(&self, status: Status) -> String {
        // SAFETY: the function answers a string of the library's own for every number.
        let text = unsafe { (self.error_string)(status) };
        if text.is_null() {
            return format!("status {status}");
        }
        // SAFETY: as above; it ends with a zero.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

/// A program that is destroyed when it is no longer needed.
struct Owned<'a> {
    program: Program,
    nvrtc: &'a Nvrtc,
}

impl Drop for Owned<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: created by this library and destroyed once.
            unsafe { (self.nvrtc.destroy)(&mut self.program) };
        }
    }
}

/// The library in or below a folder.
fn inside(folder: &Path) -> Option<PathBuf> {
    let places = BELOW.iter().map(|below| folder.join(below));
    places.flat_map(|place| NAMES.map(|name| place.join(name))).find(|file| file.is_file())
}

/// What `cargo xtask setup` unpacked: programs and tests lie at most three folders below the target folder.
fn beside_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    program.ancestors().skip(1).take(4).find_map(|folder| inside(&folder.join("nvrtc")))
}
