#![allow(unsafe_code)]
//! OpenCL: slots over `opencl3`, with libOpenCL loaded at run time. Any device whose driver has OpenCL C 1.2 will do; in the
//! tests it is PoCL, which runs the kernels on the CPU.

use super::engine::{Slot, kernel_seconds};
use super::hasher::{HashDevice, Hasher};
use super::layout::{ANSWER_WORDS, POINT_WORDS, REQUEST_WORDS, WORK_WORDS};
use super::source::Build;
use super::{Config, Device, Gpu};
use crate::{RecoverRequest, Refusal, Waker};
use opencl3::command_queue::CommandQueue;
use opencl3::context::Context;
use opencl3::device::{CL_DEVICE_TYPE_ALL, CL_DEVICE_TYPE_CPU, Device as ClDevice, get_all_devices};
use opencl3::error_codes::ClError;
use opencl3::event::{CL_COMPLETE, Event};
use opencl3::kernel::{ExecuteKernel, Kernel};
use opencl3::memory::{
    Buffer, CL_MAP_READ, CL_MAP_WRITE, CL_MEM_ALLOC_HOST_PTR, CL_MEM_READ_ONLY, CL_MEM_READ_WRITE,
    CL_MEM_WRITE_ONLY, ClMem,
};
use opencl3::platform::Platform;
use opencl3::program::Program;
use opencl3::types::{CL_BLOCKING, CL_NON_BLOCKING};
use std::ptr::null_mut;
use std::sync::Arc;

const NAME: &str = "opencl";
/// Below this a GPU is not yet full.
const BATCH_MIN: usize = 4_096;

fn refusal(reason: impl Into<String>) -> Refusal {
    Refusal { engine: NAME, reason: reason.into() }
}

fn failed(what: &'static str) -> impl Fn(ClError) -> String {
    move |error| format!("OpenCL: {what}: {error}")
}

/// All OpenCL devices of this host, in the order of their platforms.
///
/// # Errors
/// [`Refusal`] when libOpenCL or every driver is missing.
pub fn devices() -> Result<Vec<Device>, Refusal> {
    let ids = ids()?;
    Ok(ids.iter().enumerate().map(|(index, id)| describe(index, &ClDevice::new(*id))).collect())
}

fn ids() -> Result<Vec<opencl3::types::cl_device_id>, Refusal> {
    match get_all_devices(CL_DEVICE_TYPE_ALL) {
        Ok(ids) if !ids.is_empty() => Ok(ids),
        Ok(_) => {
            Err(refusal("there is no OpenCL device; install the driver of one (pocl-opencl-icd for the CPU)"))
        }
        Err(error) => Err(refusal(format!(
            "OpenCL has no device to offer ({error}); install ocl-icd-libopencl1 and a driver (pocl-opencl-icd for the CPU)"
        ))),
    }
}

fn describe(index: usize, device: &ClDevice) -> Device {
    let platform = device.platform().ok().and_then(|id| Platform::new(id).name().ok()).unwrap_or_default();
    let (driver, version) =
        (device.driver_version().unwrap_or_default(), device.version().unwrap_or_default());
    Device {
        backend: NAME,
        index,
        name: device.name().unwrap_or_default().trim_end_matches('\0').to_owned(),
        is_cpu: device.dev_type().is_ok_and(|kind| kind & CL_DEVICE_TYPE_CPU != 0),
        memory_bytes: device.global_mem_size().unwrap_or(0),
        details: format!("{platform}, driver {driver}, {version}").replace('\0', ""),
    }
}

/// Builds the kernels for the device, makes the slots and tests the engine with known answers.
///
/// # Errors
/// [`Refusal`] when OpenCL or the device is missing, the kernels do not build, memory runs out, or an answer is wrong.
pub fn probe(config: Config, waker: Option<Waker>) -> Result<Gpu, Refusal> {
    config.check(NAME)?;
    let loaded = Arc::new(Loaded::open(config.device)?);
    let slots: Result<Vec<_>, String> =
        (0..config.batches).map(|_| ClSlot::new(loaded.clone(), config.batch_max)).collect();
    Gpu::start(NAME, slots.map_err(refusal)?, &config, BATCH_MIN, waker)
}

/// Seconds that the kernels alone need for `requests`, without the journey: the mean of `rounds`.
///
/// # Errors
/// As [`probe`]; or more requests than [`Config::batch_max`].
pub fn recover_seconds(config: &Config, requests: &[RecoverRequest], rounds: u32) -> Result<f64, Refusal> {
    config.check(NAME)?;
    let mut slot = ClSlot::new(Arc::new(Loaded::open(config.device)?), config.batch_max).map_err(refusal)?;
    kernel_seconds(&mut slot, config, requests, rounds).map_err(refusal)
}

/// Keccak-256 on the device.
///
/// # Errors
/// As [`probe`].
pub fn hasher(config: &Config) -> Result<Hasher, Refusal> {
    config.check(NAME)?;
    let loaded = Loaded::open(config.device)?;
    let device = ClHasher::new(loaded).map_err(refusal)?;
    Hasher::start(NAME, Box::new(device)).map_err(refusal)
}

/// A device with the program built for it.
struct Loaded {
    // Fields are dropped in this order: what lives in a context goes before it.
    table: Buffer<u32>,
    program: Program,
    context: Context,
    device: ClDevice,
    build: Build,
}

// SAFETY: OpenCL objects may be used from any thread (specification, section 2.7, "thread safety"), and the only exception,
// setting a kernel's arguments, is not touched: `Loaded` holds no kernel. opencl3 leaves `Buffer` without the marker.
unsafe impl Send for Loaded {}
// SAFETY: as above; nothing in it is changed after `open`.
unsafe impl Sync for Loaded {}

impl Loaded {
    fn open(index: usize) -> Result<Loaded, Refusal> {
        let ids = ids()?;
        let id = *ids.get(index).ok_or_else(|| {
            refusal(format!("there is no OpenCL device {index}; this host has {}", ids.len()))
        })?;
        let device = ClDevice::new(id);
        let kind = device.dev_type().map_err(failed("device type")).map_err(refusal)?;
        let build = if kind & CL_DEVICE_TYPE_CPU != 0 { Build::CPU } else { Build::GPU };
        Loaded::build(device, build).map_err(refusal)
    }

    fn build(device: ClDevice, build: Build) -> Result<Loaded, String> {
        let context = Context::from_device(&device).map_err(failed("context"))?;
        let program = Program::create_and_build_from_source(&context, &build.source(), "-cl-std=CL1.2")
            .map_err(|log| format!("OpenCL: the kernels do not build: {log}"))?;
        let words = build.table_points() * POINT_WORDS;
        // SAFETY: no host pointer is given.
        let table = unsafe { Buffer::create(&context, CL_MEM_READ_WRITE, words, null_mut()) }
            .map_err(failed("memory for the generator's table"))?;
        let loaded = Loaded { table, program, context, device, build };
        let queue = loaded.queue()?;
        let kernel = loaded.kernel("generator_table")?;
        // SAFETY: the kernel takes one buffer, of table_points() points, and is run over as many items.
        unsafe {
            ExecuteKernel::new(&kernel)
                .set_arg(&loaded.table)
                .set_global_work_size(build.table_points())
                .set_local_work_size(build.group as usize)
                .enqueue_nd_range(&queue)
        }
        .map_err(failed("making the generator's table"))?;
        queue.finish().map_err(failed("making the generator's table"))?;
        Ok(loaded)
    }

    fn queue(&self) -> Result<CommandQueue, String> {
        // clCreateCommandQueue, because drivers of OpenCL 1.2 have no other.
        // SAFETY: the device is the context's.
        #[allow(deprecated)]
        unsafe { CommandQueue::create(&self.context, self.device.id(), 0) }.map_err(failed("queue"))
    }

    fn kernel(&self, name: &str) -> Result<Kernel, String> {
        Kernel::create(&self.program, name).map_err(failed("kernel"))
    }

    fn buffer(&self, flags: u64, words: usize) -> Result<Buffer<u32>, String> {
        // SAFETY: no host pointer is given.
        unsafe { Buffer::create(&self.context, flags, words, null_mut()) }.map_err(failed("device memory"))
    }
}

/// Host memory that the driver has pinned: a buffer mapped for its whole life, which is how OpenCL offers that.
struct Pinned {
    buffer: Buffer<u32>,
    words: *mut u32,
    length: usize,
    queue: CommandQueue,
}

// SAFETY: the pointer is to memory that belongs to this value alone.
unsafe impl Send for Pinned {}

impl Pinned {
    fn new(loaded: &Loaded, length: usize) -> Result<Pinned, String> {
        let buffer = loaded.buffer(CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR, length)?;
        let queue = loaded.queue()?;
        let mut mapped = null_mut();
        let flags = CL_MAP_READ | CL_MAP_WRITE;
        // SAFETY: the range is the whole buffer; the call returns when the memory is there.
        unsafe {
            queue.enqueue_map_buffer(
                &buffer,
                CL_BLOCKING,
                flags,
                0,
                length * size_of::<u32>(),
                &mut mapped,
                &[],
            )
        }
        .map_err(failed("pinned host memory"))?;
        let words: *mut u32 = mapped.cast();
        if words.is_null() || !words.is_aligned() {
            return Err("OpenCL: pinned host memory came back unusable".to_owned());
        }
        // SAFETY: the mapping covers `length` words, and nobody else has it. Zeroed, because drivers need not.
        unsafe { words.write_bytes(0, length) };
        Ok(Pinned { buffer, words, length, queue })
    }

    fn words(&self) -> &[u32] {
        // SAFETY: `length` words were mapped and initialised; the slot lets nobody read while the device writes.
        unsafe { std::slice::from_raw_parts(self.words, self.length) }
    }

    fn words_mut(&mut self) -> &mut [u32] {
        // SAFETY: as in `words`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.words, self.length) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the pointer is what the mapping of this buffer returned, and nobody uses it from here on.
        let unmapped =
            unsafe { self.queue.enqueue_unmap_mem_object(self.buffer.get(), self.words.cast(), &[]) };
        let _ = unmapped.map(|_| self.queue.finish());
    }
}

struct ClSlot {
    host_requests: Pinned,
    host_answers: Pinned,
    device_requests: Buffer<u32>,
    device_answers: Buffer<u32>,
    work: Buffer<u32>,
    prepare: Kernel,
    multiply: Kernel,
    finish: Kernel,
    queue: CommandQueue,
    finished: Option<Event>,
    capacity: usize,
    loaded: Arc<Loaded>,
}

// SAFETY: OpenCL objects may be used from any thread, and the kernels, whose arguments may be set by one at a time, belong to
// this slot, which has one owner. opencl3 leaves `Buffer` without the marker.
unsafe impl Send for ClSlot {}

impl ClSlot {
    fn new(loaded: Arc<Loaded>, capacity: usize) -> Result<ClSlot, String> {
        Ok(ClSlot {
            host_requests: Pinned::new(&loaded, capacity * REQUEST_WORDS)?,
            host_answers: Pinned::new(&loaded, capacity * ANSWER_WORDS)?,
            device_requests: loaded.buffer(CL_MEM_READ_ONLY, capacity * REQUEST_WORDS)?,
            device_answers: loaded.buffer(CL_MEM_WRITE_ONLY, capacity * ANSWER_WORDS)?,
            work: loaded.buffer(CL_MEM_READ_WRITE, capacity * WORK_WORDS)?,
            prepare: loaded.kernel("recover_prepare")?,
            multiply: loaded.kernel("recover_multiply")?,
            finish: loaded.kernel("recover_finish")?,
            queue: loaded.queue()?,
            finished: None,
            capacity,
            loaded,
        })
    }

    /// The kernels; the event is the last one's.
    fn enqueue_kernels(&mut self, count: usize) -> opencl3::Result<Event> {
        let group = self.loaded.build.group as usize;
        let items = count.next_multiple_of(group);
        let (count, stride) = (count as u32, self.capacity as u32);
        // SAFETY: the queue keeps the order. Each kernel's arguments are those of its declaration in recover.h, and with
        // `count` at most `capacity` none goes beyond its buffers.
        unsafe {
            ExecuteKernel::new(&self.prepare)
                .set_arg(&self.device_requests)
                .set_arg(&self.work)
                .set_arg(&count)
                .set_arg(&stride)
                .set_global_work_size(items)
                .set_local_work_size(group)
                .enqueue_nd_range(&self.queue)?;
            ExecuteKernel::new(&self.multiply)
                .set_arg(&self.work)
                .set_arg(&self.loaded.table)
                .set_arg(&count)
                .set_arg(&stride)
                .set_global_work_size(items)
                .set_local_work_size(group)
                .enqueue_nd_range(&self.queue)?;
            ExecuteKernel::new(&self.finish)
                .set_arg(&self.work)
                .set_arg(&self.device_answers)
                .set_arg(&count)
                .set_arg(&stride)
                .set_global_work_size(items)
                .set_local_work_size(group)
                .enqueue_nd_range(&self.queue)
        }
    }

    fn enqueue(&mut self, count: usize) -> opencl3::Result<Event> {
        let (requests, answers) = (count * REQUEST_WORDS, count * ANSWER_WORDS);
        let sent = &self.host_requests.words()[..requests];
        // SAFETY: the host buffer outlives the copy: the slot's owner neither touches nor drops it before the last event has
        // come. The device buffer is at least as long.
        unsafe { self.queue.enqueue_write_buffer(&mut self.device_requests, CL_NON_BLOCKING, 0, sent, &[]) }?;
        self.enqueue_kernels(count)?;
        let received = &mut self.host_answers.words_mut()[..answers];
        // SAFETY: as above.
        let read = unsafe {
            self.queue.enqueue_read_buffer(&self.device_answers, CL_NON_BLOCKING, 0, received, &[])
        }?;
        self.queue.flush()?;
        Ok(read)
    }
}

impl Slot for ClSlot {
    fn requests(&mut self) -> Result<&mut [u32], String> {
        Ok(self.host_requests.words_mut())
    }

    fn start(&mut self, count: usize) -> Result<(), String> {
        assert!(count <= self.capacity, "a batch must fit into its slot");
        self.finished = Some(self.enqueue(count).map_err(failed("starting a batch"))?);
        Ok(())
    }

    fn start_kernels(&mut self, count: usize) -> Result<(), String> {
        assert!(count <= self.capacity, "a batch must fit into its slot");
        self.finished = Some(self.enqueue_kernels(count).map_err(failed("starting the kernels"))?);
        self.queue.flush().map_err(failed("starting the kernels"))
    }

    fn is_finished(&mut self) -> Result<bool, String> {
        let Some(event) = &self.finished else { return Ok(true) };
        let status = event.command_execution_status().map_err(failed("asking for a batch"))?;
        // Below zero: the error that ended the command, or one that it waited for.
        match status.0 {
            code if code < 0 => Err(failed("a batch")(ClError(code))),
            code => Ok(code == CL_COMPLETE),
        }
    }

    fn answers(&self) -> Result<&[u32], String> {
        Ok(self.host_answers.words())
    }
}

struct ClHasher {
    messages: Buffer<u32>,
    places: Buffer<u32>,
    hashes: Buffer<u32>,
    /// Words that the three buffers hold.
    sizes: [usize; 3],
    kernel: Kernel,
    queue: CommandQueue,
    loaded: Loaded,
}

// SAFETY: as for `ClSlot`: the kernel has one owner.
unsafe impl Send for ClHasher {}

impl ClHasher {
    fn new(loaded: Loaded) -> Result<ClHasher, String> {
        Ok(ClHasher {
            messages: loaded.buffer(CL_MEM_READ_ONLY, 1)?,
            places: loaded.buffer(CL_MEM_READ_ONLY, 1)?,
            hashes: loaded.buffer(CL_MEM_WRITE_ONLY, 1)?,
            sizes: [1; 3],
            kernel: loaded.kernel("keccak256_many")?,
            queue: loaded.queue()?,
            loaded,
        })
    }
}

impl HashDevice for ClHasher {
    fn load(&mut self, words: &[u32], table: &[u32]) -> Result<(), String> {
        let needed = [words.len(), table.len(), 4 * table.len()].map(usize::next_power_of_two);
        let flags = [CL_MEM_READ_ONLY, CL_MEM_READ_ONLY, CL_MEM_WRITE_ONLY];
        let buffers = [&mut self.messages, &mut self.places, &mut self.hashes];
        for (i, buffer) in buffers.into_iter().enumerate() {
            if self.sizes[i] < needed[i] {
                *buffer = self.loaded.buffer(flags[i], needed[i])?;
                self.sizes[i] = needed[i];
            }
        }
        for (buffer, words) in [(&mut self.messages, words), (&mut self.places, table)] {
            if !words.is_empty() {
                // SAFETY: the copy blocks, so the slice lives long enough; the buffer is at least as long.
                unsafe { self.queue.enqueue_write_buffer(buffer, CL_BLOCKING, 0, words, &[]) }
                    .map_err(failed("loading messages"))?;
            }
        }
        Ok(())
    }

    fn run(&mut self, count: usize, rounds: u32) -> Result<(), String> {
        let (group, zero) = (self.loaded.build.group as usize, 0u32);
        for _ in 0..rounds {
            // SAFETY: `load` put the places of `count` messages into the table, each within the messages (the hasher made it
            // so), and made room for the hashes; the arguments are those of keccak.h.
            unsafe {
                ExecuteKernel::new(&self.kernel)
                    .set_arg(&self.messages)
                    .set_arg(&self.places)
                    .set_arg(&zero)
                    .set_arg(&zero)
                    .set_arg(&self.hashes)
                    .set_arg(&(count as u32))
                    .set_global_work_size(count.next_multiple_of(group))
                    .set_local_work_size(group)
                    .enqueue_nd_range(&self.queue)
            }
            .map_err(failed("hashing"))?;
        }
        self.queue.finish().map_err(failed("hashing"))
    }

    fn read(&mut self, hashes: &mut [u32]) -> Result<(), String> {
        // SAFETY: the copy blocks; the buffer is at least as long.
        unsafe { self.queue.enqueue_read_buffer(&self.hashes, CL_BLOCKING, 0, hashes, &[]) }
            .map_err(failed("reading hashes"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::gpu::engine::self_test_of;
    use secp256k1::{PublicKey, SECP256K1, SecretKey};

    /// The groups and the table that GPUs get, on whatever device is here: the table's points, and recoveries with them.
    #[test]
    fn the_build_for_gpus_is_right_too() {
        let id = match ids() {
            Ok(ids) => ids[0],
            Err(refusal) => return eprintln!("skipped: {refusal}"),
        };
        let build = Build { small: true, ..Build::GPU };
        let loaded = Loaded::build(ClDevice::new(id), build).unwrap();
        let mut table = vec![0u32; build.table_points() * POINT_WORDS];
        let queue = loaded.queue().unwrap();
        // SAFETY: the copy blocks, and both sides have the same length.
        unsafe { queue.enqueue_read_buffer(&loaded.table, CL_BLOCKING, 0, &mut table, &[]) }.unwrap();
        let last = build.table_points() as u64;
        for k in (1..=40).chain((1..last).step_by(97)).chain(last - 40..=last) {
            let mut secret = [0; 32];
            secret[24..].copy_from_slice(&k.to_be_bytes());
            let point = PublicKey::from_secret_key(SECP256K1, &SecretKey::from_byte_array(secret).unwrap());
            let words = &table[(k as usize - 1) * POINT_WORDS..][..POINT_WORDS];
            let bytes: Vec<u8> =
                words.chunks(8).flat_map(|n| n.iter().rev().flat_map(|word| word.to_be_bytes())).collect();
            assert_eq!(bytes, point.serialize_uncompressed()[1..], "{k}·G");
        }
        let slot = ClSlot::new(Arc::new(loaded), 512).unwrap();
        self_test_of(slot, 300);
    }
}
