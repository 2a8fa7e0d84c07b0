#![allow(unsafe_code)]
//! CUDA: slots over `cudarc`, with the driver (libcuda) and the compiler (NVRTC) loaded at run time; nothing is linked.
//!
//! The kernels are compiled at the first start for the device's architecture and kept on disk, so that later starts need no
//! compiler; see `cache.rs` for what the kept code depends on.

use super::cache::{Cache, Key};
use super::engine::{Slot, kernel_seconds};
use super::hasher::{HashDevice, Hasher};
use super::layout::{ANSWER_WORDS, POINT_WORDS, REQUEST_WORDS, WORK_WORDS};
use super::nvrtc::{Nvrtc, NvrtcError, Target};
use super::source::Build;
use super::{Config, Device, Gpu};
use crate::{RecoverRequest, Refusal, Waker};
use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, LaunchConfig,
    PinnedHostSlice, PushKernelArg,
};
use cudarc::nvrtc::Ptx;
use std::path::Path;
use std::sync::Arc;

const NAME: &str = "cuda";
/// Below this a GPU is not yet full.
const BATCH_MIN: usize = 16_384;
/// Options of the compiler.
const OPTIONS: [&str; 1] = ["--std=c++14"];

fn refusal(reason: impl Into<String>) -> Refusal {
    Refusal { engine: NAME, reason: reason.into() }
}

fn failed(what: &'static str) -> impl Fn(DriverError) -> String {
    move |error| {
        let text = error.error_string().ok().map(|text| text.to_string_lossy().into_owned());
        format!("CUDA: {what}: {} ({:?})", text.unwrap_or_default(), error.0)
    }
}

/// All CUDA devices of this host.
///
/// # Errors
/// [`Refusal`] when the driver is missing or does not start.
pub fn devices() -> Result<Vec<Device>, Refusal> {
    let driver = driver()?;
    let count = result::device::get_count().map_err(failed("counting devices")).map_err(refusal)?;
    (0..count.max(0)).map(|index| describe(index, &driver).map_err(refusal)).collect()
}

/// Makes sure that there is a driver; its version, as in "12.4".
fn driver() -> Result<String, Refusal> {
    // SAFETY: it only asks the loader, and loading libcuda has no requirements.
    if !unsafe { sys::is_culib_present() } {
        return Err(refusal("libcuda was not found: there is no NVIDIA driver on this host"));
    }
    result::init().map_err(failed("starting the driver")).map_err(refusal)?;
    let mut version = 0;
    // SAFETY: the place is valid for a write.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(failed("the driver's version"))
        .map_err(refusal)?;
    Ok(format!("{}.{}", version / 1000, version % 1000 / 10))
}

fn describe(index: i32, driver: &str) -> Result<Device, String> {
    let device = result::device::get(index).map_err(failed("a device"))?;
    let attribute = |attribute| {
        // SAFETY: the device is the driver's own.
        unsafe { result::device::get_attribute(device, attribute) }.unwrap_or(0)
    };
    let major = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
    let minor = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    let processors = attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    Ok(Device {
        backend: NAME,
        index: index as usize,
        is_cpu: false,
        name: result::device::get_name(device).map_err(failed("a device's name"))?,
        // SAFETY: as above.
        memory_bytes: unsafe { result::device::total_mem(device) }.unwrap_or(0) as u64,
        details: format!("sm_{major}{minor}, {processors} multiprocessors, driver {driver}"),
    })
}

/// Compiles the kernels (or finds them compiled), makes the slots and tests the engine with known answers.
///
/// # Errors
/// [`Refusal`] when libcuda, NVRTC or the device is missing, the kernels do not build, memory runs out, or an answer is
/// wrong.
pub fn probe(config: Config, waker: Option<Waker>) -> Result<Gpu, Refusal> {
    config.check(NAME)?;
    let loaded = Arc::new(Loaded::open(&config)?);
    let slots: Result<Vec<_>, String> =
        (0..config.batches).map(|_| CudaSlot::new(loaded.clone(), config.batch_max)).collect();
    Gpu::start(NAME, slots.map_err(refusal)?, &config, BATCH_MIN, waker)
}

/// Seconds that the kernels alone need for `requests`, without the journey: the mean of `rounds`.
///
/// # Errors
/// As [`probe`]; or more requests than [`Config::batch_max`].
pub fn recover_seconds(config: &Config, requests: &[RecoverRequest], rounds: u32) -> Result<f64, Refusal> {
    config.check(NAME)?;
    let mut slot = CudaSlot::new(Arc::new(Loaded::open(config)?), config.batch_max).map_err(refusal)?;
    kernel_seconds(&mut slot, config, requests, rounds).map_err(refusal)
}

/// Keccak-256 on the device.
///
/// # Errors
/// As [`probe`].
pub fn hasher(config: &Config) -> Result<Hasher, Refusal> {
    config.check(NAME)?;
    let loaded = Loaded::open(config)?;
    let device = CudaHasher::new(loaded).map_err(refusal)?;
    Hasher::start(NAME, Box::new(device)).map_err(refusal)
}

/// `source` compiled for an architecture (as in 90), from the cache or from NVRTC, which is looked for only when it is needed. The
/// second is true when they were compiled.
fn image(
    cache: &Cache,
    nvrtc: Option<&Path>,
    source: &str,
    arch: u32,
    driver: &str,
    fresh: bool,
) -> Result<(Vec<u8>, bool), NvrtcError> {
    let key = Key::new(source, &Target::Cubin(arch).to_string(), &OPTIONS, driver);
    if !fresh && let Some(code) = cache.load(key) {
        return Ok((code, false));
    }
    let nvrtc = Nvrtc::find(nvrtc)?;
    let known = nvrtc.architectures();
    // Code for an architecture that NVRTC does not know is left to the driver, from the newest PTX that it can read.
    let target = match known.contains(&arch) {
        true => Target::Cubin(arch),
        false => {
            let older = known.iter().rev().find(|known| **known <= arch).copied();
            Target::Ptx(older.ok_or_else(|| NvrtcError::Compile {
                version: nvrtc.version(),
                target: Target::Cubin(arch).to_string(),
                log: format!("it knows {known:?} only; use an older NVRTC for so old a device"),
            })?)
        }
    };
    let (code, _log) = nvrtc.compile(source, target, &OPTIONS)?;
    cache.store(key, &code);
    Ok((code, true))
}

/// A device with the kernels loaded.
struct Loaded {
    context: Arc<CudaContext>,
    module: Arc<CudaModule>,
    table: CudaSlice<u32>,
    build: Build,
}

impl Loaded {
    fn open(config: &Config) -> Result<Loaded, Refusal> {
        let driver = driver()?;
        let count = result::device::get_count().map_err(failed("counting devices")).map_err(refusal)?;
        if config.device >= count.max(0) as usize {
            return Err(refusal(format!("there is no CUDA device {}; this host has {count}", config.device)));
        }
        let context = CudaContext::new(config.device).map_err(failed("context")).map_err(refusal)?;
        let (major, minor) =
            context.compute_capability().map_err(failed("compute capability")).map_err(refusal)?;
        let arch = (major * 10 + minor) as u32;
        let (cache, build) = (Cache::open(config.cache_dir.as_deref()), Build::GPU);
        let source = build.source();
        let find = |fresh| {
            image(&cache, config.nvrtc.as_deref(), &source, arch, &driver, fresh)
                .map_err(|error| refusal(error.to_string()))
        };
        let (code, compiled) = find(false)?;
        let module = match context.load_module(Ptx::from_binary(code)) {
            Ok(module) => module,
            // Whole, but not what this driver takes.
            Err(_) if !compiled => context
                .load_module(Ptx::from_binary(find(true)?.0))
                .map_err(failed("loading the kernels"))
                .map_err(refusal)?,
            Err(error) => return Err(refusal(failed("loading the kernels")(error))),
        };
        Loaded::make_table(context, module, build).map_err(refusal)
    }

    fn make_table(
        context: Arc<CudaContext>,
        module: Arc<CudaModule>,
        build: Build,
    ) -> Result<Loaded, String> {
        // SAFETY: each buffer is used on one stream only, but for the generator's table, which is finished before it is
        // shared and only read from then on.
        unsafe { context.disable_event_tracking() };
        let stream = context.default_stream();
        let table = stream
            .alloc_zeros::<u32>(build.table_points() * POINT_WORDS)
            .map_err(failed("memory for the generator's table"))?;
        let kernel = module.load_function("generator_table").map_err(failed("a kernel"))?;
        let blocks = build.table_points() as u32 / build.group;
        // SAFETY: the kernel takes one buffer, of table_points() points, and is run over as many threads.
        unsafe { stream.launch_builder(&kernel).arg(&table).launch(shape(blocks, build)) }
            .map_err(failed("making the generator's table"))?;
        stream.synchronize().map_err(failed("making the generator's table"))?;
        Ok(Loaded { context, module, table, build })
    }

    fn function(&self, name: &str) -> Result<CudaFunction, String> {
        self.module.load_function(name).map_err(failed("a kernel"))
    }
}

fn shape(blocks: u32, build: Build) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (build.group, 1, 1), shared_mem_bytes: 0 }
}

struct CudaSlot {
    host_requests: PinnedHostSlice<u32>,
    host_answers: PinnedHostSlice<u32>,
    device_requests: CudaSlice<u32>,
    device_answers: CudaSlice<u32>,
    work: CudaSlice<u32>,
    prepare: CudaFunction,
    multiply: CudaFunction,
    finish: CudaFunction,
    finished: CudaEvent,
    stream: Arc<CudaStream>,
    capacity: usize,
    loaded: Arc<Loaded>,
}

impl CudaSlot {
    fn new(loaded: Arc<Loaded>, capacity: usize) -> Result<CudaSlot, String> {
        let context = &loaded.context;
        let stream = context.new_stream().map_err(failed("stream"))?;
        let pinned = |words: usize, flags| {
            // SAFETY: every word is written just below, before anybody reads.
            let mut memory = unsafe { context.alloc_pinned_with_flags::<u32>(words, flags) }
                .map_err(failed("pinned host memory"))?;
            memory.as_mut_slice().map_err(failed("pinned host memory"))?.fill(0);
            Ok::<_, String>(memory)
        };
        let memory = |words: usize| stream.alloc_zeros::<u32>(words).map_err(failed("device memory"));
        Ok(CudaSlot {
            // Write-combined: the CPU only writes here, one word after the other.
            host_requests: pinned(capacity * REQUEST_WORDS, sys::CU_MEMHOSTALLOC_WRITECOMBINED)?,
            host_answers: pinned(capacity * ANSWER_WORDS, 0)?,
            device_requests: memory(capacity * REQUEST_WORDS)?,
            device_answers: memory(capacity * ANSWER_WORDS)?,
            work: memory(capacity * WORK_WORDS)?,
            prepare: loaded.function("recover_prepare")?,
            multiply: loaded.function("recover_multiply")?,
            finish: loaded.function("recover_finish")?,
            finished: context.new_event(None).map_err(failed("event"))?,
            stream: stream.clone(),
            capacity,
            loaded: loaded.clone(),
        })
    }

    fn enqueue_kernels(&mut self, count: usize) -> Result<(), DriverError> {
        let build = self.loaded.build;
        let shape = shape((count as u32).div_ceil(build.group), build);
        let (count, stride) = (count as u32, self.capacity as u32);
        // SAFETY: the stream keeps the order. Each kernel's arguments are those of its declaration in recover.h, and with
        // `count` at most `capacity` none goes beyond its buffers.
        unsafe {
            self.stream
                .launch_builder(&self.prepare)
                .arg(&self.device_requests)
                .arg(&mut self.work)
                .arg(&count)
                .arg(&stride)
                .launch(shape)?;
            self.stream
                .launch_builder(&self.multiply)
                .arg(&mut self.work)
                .arg(&self.loaded.table)
                .arg(&count)
                .arg(&stride)
                .launch(shape)?;
            self.stream
                .launch_builder(&self.finish)
                .arg(&self.work)
                .arg(&mut self.device_answers)
                .arg(&count)
                .arg(&stride)
                .launch(shape)?;
        }
        Ok(())
    }

    fn enqueue(&mut self, count: usize) -> Result<(), DriverError> {
        self.loaded.context.bind_to_thread()?;
        let requests = &self.host_requests.as_slice()?[..count * REQUEST_WORDS];
        let (to, _) = self.device_requests.device_ptr(&self.stream);
        // SAFETY: the host buffer outlives the copy: the slot's owner neither touches nor drops it before the event has
        // come. The device buffer is at least as long.
        unsafe { result::memcpy_htod_async(to, requests, self.stream.cu_stream()) }?;
        self.enqueue_kernels(count)?;
        let answers = &mut self.host_answers.as_mut_slice()?[..count * ANSWER_WORDS];
        let (from, _) = self.device_answers.device_ptr(&self.stream);
        // SAFETY: as above.
        unsafe { result::memcpy_dtoh_async(answers, from, self.stream.cu_stream()) }?;
        self.finished.record(&self.stream)
    }
}

impl Slot for CudaSlot {
    fn requests(&mut self) -> Result<&mut [u32], String> {
        self.host_requests.as_mut_slice().map_err(failed("pinned host memory"))
    }

    fn start(&mut self, count: usize) -> Result<(), String> {
        assert!(count <= self.capacity, "a batch must fit into its slot");
        self.enqueue(count).map_err(failed("starting a batch"))
    }

    fn start_kernels(&mut self, count: usize) -> Result<(), String> {
        assert!(count <= self.capacity, "a batch must fit into its slot");
        self.enqueue_kernels(count)
            .and_then(|()| self.finished.record(&self.stream))
            .map_err(failed("starting the kernels"))
    }

    fn is_finished(&mut self) -> Result<bool, String> {
        let asked = self.loaded.context.bind_to_thread().and_then(|()| self.finished.try_is_complete());
        asked.map_err(failed("a batch"))
    }

    fn answers(&self) -> Result<&[u32], String> {
        self.host_answers.as_slice().map_err(failed("pinned host memory"))
    }
}

struct CudaHasher {
    messages: CudaSlice<u32>,
    places: CudaSlice<u32>,
    hashes: CudaSlice<u32>,
    kernel: CudaFunction,
    stream: Arc<CudaStream>,
    loaded: Loaded,
}

impl CudaHasher {
    fn new(loaded: Loaded) -> Result<CudaHasher, String> {
        let stream = loaded.context.new_stream().map_err(failed("stream"))?;
        let empty = || stream.alloc_zeros::<u32>(1).map_err(failed("device memory"));
        Ok(CudaHasher {
            messages: empty()?,
            places: empty()?,
            hashes: empty()?,
            kernel: loaded.function("keccak256_many")?,
            stream: stream.clone(),
            loaded,
        })
    }

    /// `buffer` with room for `words`, and these in it.
    fn fill(stream: &Arc<CudaStream>, buffer: &mut CudaSlice<u32>, words: &[u32]) -> Result<(), DriverError> {
        if buffer.len() < words.len() {
            *buffer = stream.alloc_zeros::<u32>(words.len().next_power_of_two())?;
        }
        match words.is_empty() {
            true => Ok(()),
            false => stream.memcpy_htod(words, &mut buffer.slice_mut(..words.len())),
        }
    }
}

impl HashDevice for CudaHasher {
    fn load(&mut self, words: &[u32], table: &[u32]) -> Result<(), String> {
        let hashes = 4 * table.len();
        (|| {
            CudaHasher::fill(&self.stream, &mut self.messages, words)?;
            CudaHasher::fill(&self.stream, &mut self.places, table)?;
            if self.hashes.len() < hashes {
                self.hashes = self.stream.alloc_zeros::<u32>(hashes.next_power_of_two())?;
            }
            // The caller's memory may go as soon as this returns.
            self.stream.synchronize()
        })()
        .map_err(failed("loading messages"))
    }

    fn run(&mut self, count: usize, rounds: u32) -> Result<(), String> {
        let build = self.loaded.build;
        let shape = shape((count as u32).div_ceil(build.group), build);
        let (count, zero) = (count as u32, 0u32);
        for _ in 0..rounds {
            // SAFETY: `load` put the places of `count` messages into the table, each within the messages (the hasher made it
            // so), and made room for the hashes; the arguments are those of keccak.h.
            unsafe {
                self.stream
                    .launch_builder(&self.kernel)
                    .arg(&self.messages)
                    .arg(&self.places)
                    .arg(&zero)
                    .arg(&zero)
                    .arg(&mut self.hashes)
                    .arg(&count)
                    .launch(shape)
            }
            .map_err(failed("hashing"))?;
        }
        self.stream.synchronize().map_err(failed("hashing"))
    }

    fn read(&mut self, hashes: &mut [u32]) -> Result<(), String> {
        self.stream
            .memcpy_dtoh(&self.hashes.slice(..hashes.len()), hashes)
            .and_then(|()| self.stream.synchronize())
            .map_err(failed("reading hashes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compiles in a moment; that the kernels compile is tested elsewhere.
    const SOURCE: &str = "extern \"C\" __global__ void nothing(int *a) { a[0] = 1; }";

    /// The compiler runs once for a source, an architecture and a driver, and again when the kept code is damaged.
    #[test]
    fn kept_kernels_are_compiled_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(folder.path()));
        let get = |driver: &str| image(&cache, None, SOURCE, 90, driver, false);
        let (code, compiled) = match get("12.4") {
            Ok(found) => found,
            Err(error @ NvrtcError::Missing { .. }) => return eprintln!("skipped: {error}"),
            Err(error) => panic!("{error}"),
        };
        assert!(compiled && code.starts_with(b"\x7fELF"), "a cubin is an ELF file");
        assert_eq!(get("12.4").unwrap(), (code.clone(), false));
        let file = std::fs::read_dir(folder.path().join("kernels")).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(get("12.4").unwrap(), (code.clone(), true), "a flipped bit means: compile again");
        assert_eq!(get("12.4").unwrap(), (code.clone(), false), "which heals the file");
        // Kept code needs no compiler at all.
        let nowhere = folder.path().join("nowhere");
        let kept = image(&cache, Some(&nowhere), SOURCE, 90, "12.4", false).unwrap();
        assert_eq!(kept, (code, false));
        let other_driver = image(&cache, Some(&nowhere), SOURCE, 90, "12.5", false);
        assert!(matches!(other_driver, Err(NvrtcError::Missing { .. })), "{other_driver:?}");
    }

    #[test]
    fn an_architecture_newer_than_the_compiler_is_left_to_the_driver() {
        let cache = Cache::open(Some(tempfile::tempdir().unwrap().path()));
        match image(&cache, None, SOURCE, 999, "99.0", false) {
            Ok((code, true)) => assert!(String::from_utf8_lossy(&code).contains(".entry nothing")),
            Err(error @ NvrtcError::Missing { .. }) => eprintln!("skipped: {error}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_host_without_a_driver_refuses_with_a_sentence() {
        // SAFETY: it only asks the loader.
        if unsafe { sys::is_culib_present() } {
            return eprintln!("skipped: this host has an NVIDIA driver");
        }
        for refusal in
            [devices().err(), probe(Config::default(), None).err(), hasher(&Config::default()).err()]
        {
            let text = refusal.expect("there is no device").to_string();
            assert!(text.contains("cuda refused: libcuda was not found"), "{text}");
        }
    }
}
