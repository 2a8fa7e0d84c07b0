#![allow(unsafe_code)]
//! Level L0 of the offload ABI: a vendor's shared library with one exported table and a synchronous batch call.
//!
//! In: requests, bounded by [`Config::capacity`]. Out: claims. On overload: [`Full`]. The library is called from a thread
//! of its own, one batch at a time, so that a call which never returns costs that thread and nothing else: past
//! [`Config::call_limit`] the engine reports a fault and the thread is left behind. What no thread can stop is a library
//! that writes where it should not; a node in production runs it behind `ironlane-card --plugin`, in its own process.

use crate::abi::{self, Capabilities, Completion, Submission, status};
use crate::card::{Compute, software};
use crate::claim::{Claim, ClaimEngine, Verdict};
use crate::{Caps, Full, RecoverAnswer, RecoverEngine, RecoverRequest, Refusal, Trust, Waker};
use alloy_primitives::Address;
use std::collections::{HashMap, VecDeque};
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

const NAME: &str = "plugin";

/// `struct ironlane_offload_table`.
#[repr(C)]
struct Table {
    version: u32,
    bytes: u32,
    open: Option<unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> i32>,
    capabilities: Option<unsafe extern "C" fn(*mut c_void, *mut Capabilities) -> i32>,
    recover_batch: Option<unsafe extern "C" fn(*mut c_void, *const Submission, *mut Completion, u32) -> i32>,
    reset: Option<unsafe extern "C" fn(*mut c_void) -> i32>,
    close: Option<unsafe extern "C" fn(*mut c_void)>,
}

/// An open card of a loaded library. The library stays loaded for the life of the process: threads of its own may run.
pub struct Library {
    table: NonNull<Table>,
    card: *mut c_void,
    caps: Capabilities,
}

// SAFETY: the ABI lets the host call from any thread, one at a time; `&mut self` and ownership see to the latter.
unsafe impl Send for Library {}

impl Library {
    /// Loads a library, opens its card and reads its capabilities.
    ///
    /// # Errors
    /// A sentence on what was wrong.
    pub fn open(path: &Path, options: &str) -> Result<Self, String> {
        let name = path.display();
        let text =
            |bytes: &[u8]| CString::new(bytes).map_err(|_| format!("{name} or its options contain a zero"));
        let (c_path, c_options) = (text(path.as_os_str().as_bytes())?, text(options.as_bytes())?);
        // SAFETY: loading runs the library's constructors: the operator named the file, and with it trusts its code.
        let handle = unsafe { libc::dlopen(c_path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        if handle.is_null() {
            // SAFETY: dlerror gives a C string that lives until the next dl call of this thread, or null.
            let reason = unsafe {
                let error = libc::dlerror();
                if error.is_null() { "unknown".into() } else { CStr::from_ptr(error).to_string_lossy() }
            };
            return Err(format!("{name} cannot be loaded: {reason}"));
        }
        // SAFETY: an open handle and a constant C string.
        let symbol = unsafe { libc::dlsym(handle, c"ironlane_offload_v1".as_ptr()) };
        if symbol.is_null() {
            return Err(format!("{name} does not export ironlane_offload_v1"));
        }
        // SAFETY: the ABI gives this symbol this type.
        let entry: unsafe extern "C" fn() -> *mut Table = unsafe { std::mem::transmute(symbol) };
        // SAFETY: as above; it takes nothing.
        let table = NonNull::new(unsafe { entry() }).ok_or_else(|| format!("{name} exports no table"))?;
        // SAFETY: the ABI makes the table a constant of the library, at least these two words long.
        let (version, bytes) = unsafe { ((*table.as_ptr()).version, (*table.as_ptr()).bytes) };
        if version >> 16 != abi::VERSION >> 16 || (bytes as usize) < size_of::<Table>() {
            return Err(format!(
                "{name} speaks ABI {}.{} with a table of {bytes} bytes; 1.x and at least {} are needed",
                version >> 16,
                version & 0xffff,
                size_of::<Table>()
            ));
        }
        // SAFETY: the length was checked just now.
        let functions = unsafe { table.as_ref() };
        let (Some(open), Some(capabilities), Some(_), Some(_), Some(_)) = (
            functions.open,
            functions.capabilities,
            functions.recover_batch,
            functions.reset,
            functions.close,
        ) else {
            return Err(format!("{name} leaves functions of its table out"));
        };
        let mut card = std::ptr::null_mut();
        // SAFETY: called as the ABI says, with a C string and a place for the result.
        let code = unsafe { open(c_options.as_ptr(), &raw mut card) };
        if code != 0 {
            return Err(format!("{name} could not open its card: code {code}"));
        }
        let mut library = Self { table, card, caps: Capabilities::new("", "", "") };
        // SAFETY: an open card and a place of the right size.
        let code = unsafe { capabilities(card, &raw mut library.caps) };
        if code != 0 {
            return Err(format!("{name} states no capabilities: code {code}"));
        }
        library.caps.check().map_err(|e| format!("{name}: {e}"))?;
        Ok(library)
    }

    fn functions(&self) -> &Table {
        // SAFETY: a constant of a library that is never unloaded; its length was checked when it was opened.
        unsafe { self.table.as_ref() }
    }

    /// Calls the library.
    ///
    /// # Errors
    /// The library's code.
    pub fn recover_batch(&mut self, batch: &[Submission]) -> Result<Vec<Completion>, i32> {
        let mut completions = vec![Completion::ZERO; batch.len()];
        let call = self.functions().recover_batch.ok_or(-1)?;
        // SAFETY: `count` readable submissions and as many writable completions; any bytes are a valid completion.
        let code = unsafe { call(self.card, batch.as_ptr(), completions.as_mut_ptr(), batch.len() as u32) };
        if code == 0 { Ok(completions) } else { Err(code) }
    }

    /// Asks the library to forget errors.
    ///
    /// # Errors
    /// The library's code.
    pub fn reset(&mut self) -> Result<(), i32> {
        let call = self.functions().reset.ok_or(-1)?;
        // SAFETY: an open card.
        match unsafe { call(self.card) } {
            0 => Ok(()),
            code => Err(code),
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        if let Some(close) = self.functions().close {
            // SAFETY: an open card, closed once.
            unsafe { close(self.card) };
        }
    }
}

impl Compute for Library {
    fn capabilities(&self) -> Capabilities {
        self.caps
    }

    fn answer(&mut self, batch: &[Submission], out: &mut Vec<Completion>) {
        let most = self.caps.entries_max as usize;
        let plain: Vec<Submission> = batch.iter().map(|s| Submission { epoch: 0, seal: 0, ..*s }).collect();
        for part in plain.chunks(most.max(1)) {
            // What gets no answer here is completed as INTERNAL by the caller.
            if let Ok(completions) = self.recover_batch(part) {
                out.extend(completions);
            } else {
                let _ = self.reset();
            }
        }
    }
}

/// How a plug-in is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The library.
    pub path: PathBuf,
    /// Passed to its `open`.
    pub options: String,
    /// Requests in flight, at most.
    pub capacity: usize,
    /// Longest batch given to one call.
    pub batch_max: usize,
    /// How long one call may take.
    pub call_limit: Duration,
}

impl Config {
    /// The usual limits: 16,384 in flight, 256 a call, five seconds a call.
    pub fn new(path: impl Into<PathBuf>, options: &str) -> Self {
        Self {
            path: path.into(),
            options: options.into(),
            capacity: 16_384,
            batch_max: 256,
            call_limit: Duration::from_secs(5),
        }
    }
}

/// Loads a plug-in as an engine and tests it with one request.
///
/// # Errors
/// [`Refusal`].
pub fn probe(config: Config, waker: Option<Waker>) -> Result<PluginEngine, Refusal> {
    PluginEngine::start(config, waker).map_err(|reason| Refusal { engine: NAME, reason })
}

/// A plug-in as an engine. Its answers are claims.
pub struct PluginEngine {
    config: Config,
    caps: Capabilities,
    worker: Worker,
    waker: Option<Waker>,
    queue: VecDeque<RecoverRequest>,
    /// What the library is working on, by the tag that the library sees.
    calling: HashMap<u64, RecoverRequest>,
    called_at: Instant,
    next_tag: u64,
    fault: Option<String>,
}

/// The thread that calls the library. Dropping this lets the thread end by itself, if ever it comes back.
struct Worker {
    jobs: Sender<Vec<Submission>>,
    results: Receiver<Result<Vec<Completion>, i32>>,
}

impl Worker {
    /// The library is opened in its thread, too: `open` may hang as well as any other call.
    fn start(config: &Config, waker: Option<Waker>) -> Result<(Self, Capabilities), String> {
        let (jobs, to_do) = channel::<Vec<Submission>>();
        let (done, results) = channel();
        let (opened, open) = channel();
        let (path, options) = (config.path.clone(), config.options.clone());
        std::thread::Builder::new()
            .name("plugin".into())
            .spawn(move || {
                let mut library = match Library::open(&path, &options) {
                    Ok(library) => library,
                    Err(reason) => {
                        let _ = opened.send(Err(reason));
                        return;
                    }
                };
                let _ = opened.send(Ok(library.caps));
                while let Ok(batch) = to_do.recv() {
                    let result = library.recover_batch(&batch);
                    if result.is_err() {
                        let _ = library.reset();
                    }
                    if done.send(result).is_err() {
                        return;
                    }
                    if let Some(waker) = &waker {
                        waker();
                    }
                }
            })
            .map_err(|e| format!("no thread for the plug-in: {e}"))?;
        // Opening a card may load a bitstream.
        let limit = config.call_limit.max(Duration::from_secs(10));
        let caps = open
            .recv_timeout(limit)
            .map_err(|_| format!("{} did not open within {limit:?}", config.path.display()))??;
        Ok((Self { jobs, results }, caps))
    }
}

impl PluginEngine {
    fn start(config: Config, waker: Option<Waker>) -> Result<Self, String> {
        let (worker, caps) = Worker::start(&config, waker.clone())?;
        let mut engine = Self {
            config,
            caps,
            worker,
            waker,
            queue: VecDeque::new(),
            calling: HashMap::new(),
            called_at: Instant::now(),
            next_tag: 1,
            fault: None,
        };
        engine.self_test()?;
        Ok(engine)
    }

    /// What the card said about itself.
    pub fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    fn self_test(&mut self) -> Result<(), String> {
        let (request, expected) = software::known_answer();
        let _room = self.submit(&mut vec![request]);
        let mut claims = vec![];
        while self.poll_claims(&mut claims) == 0 {
            if let Some(fault) = &self.fault {
                return Err(format!("in the self-test {fault}"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        match claims[0].verdict {
            Verdict::Signer { address, .. } if address == expected => Ok(()),
            other => Err(format!("the self-test expected the signer {expected} and got {other:?}")),
        }
    }

    /// Gives the library its next batch, if it is free.
    fn call(&mut self) {
        if !self.calling.is_empty() || self.queue.is_empty() || self.fault.is_some() {
            return;
        }
        let most = self.config.batch_max.min(self.caps.entries_max as usize).max(1);
        let mut batch = Vec::new();
        for request in self.queue.drain(..self.queue.len().min(most)) {
            batch.push(software::submission(self.next_tag, &request));
            self.calling.insert(self.next_tag, request);
            self.next_tag += 1;
        }
        self.called_at = Instant::now();
        if self.worker.jobs.send(batch).is_err() {
            self.fault = Some("the plug-in's thread ended".into());
        }
    }

    fn drain(&mut self, mut each: impl FnMut(Claim, &RecoverRequest)) -> usize {
        if self.fault.is_some() {
            return 0;
        }
        let mut count = 0;
        match self.worker.results.try_recv() {
            Ok(Ok(completions)) => {
                for completion in completions {
                    match self.claim(&completion) {
                        Ok((claim, request)) => {
                            each(claim, &request);
                            count += 1;
                        }
                        Err(reason) => {
                            self.fault = Some(format!("the plug-in breaks the protocol: {reason}"));
                            return count;
                        }
                    }
                }
            }
            Ok(Err(_code)) => {
                // Said by the library itself: nothing in this batch was answered.
                for (_, request) in std::mem::take(&mut self.calling) {
                    let claim = Claim { tag: request.tag, verdict: Verdict::Declined(status::INTERNAL) };
                    each(claim, &request);
                    count += 1;
                }
            }
            Err(TryRecvError::Disconnected) => self.fault = Some("the plug-in's thread ended".into()),
            Err(TryRecvError::Empty) => {
                if !self.calling.is_empty() && self.called_at.elapsed() > self.config.call_limit {
                    self.fault = Some(format!(
                        "the plug-in has not returned from a call for {:?}; its thread is left behind",
                        self.config.call_limit
                    ));
                }
            }
        }
        self.call();
        count
    }

    fn claim(&mut self, completion: &Completion) -> Result<(Claim, RecoverRequest), String> {
        let asked = Submission { op: abi::OP_RECOVER, ..Submission::ZERO };
        let request = self.calling.remove(&completion.tag).ok_or_else(|| {
            format!("it answers tag {}, which it was not asked or has answered", completion.tag)
        })?;
        if let Some(rule) = completion.violation(&asked) {
            return Err(rule.into());
        }
        let verdict = match (completion.status, abi::error_of(completion.status)) {
            (status::OK, _) => Verdict::Signer {
                address: Address::from(completion.address),
                key: Some(completion.public_key),
            },
            (_, Some(error)) => Verdict::Invalid(error),
            (other, None) => Verdict::Declined(other),
        };
        Ok((Claim { tag: request.tag, verdict }, request))
    }
}

impl RecoverEngine for PluginEngine {
    fn caps(&self) -> Caps {
        Caps {
            name: NAME,
            trust: Trust::Hint,
            capacity: self.config.capacity,
            batch_min: self.caps.batch_min as usize,
            parallelism: self.caps.parallelism as usize,
        }
    }

    fn submit(&mut self, batch: &mut Vec<RecoverRequest>) -> Result<(), Full> {
        let room =
            if self.fault.is_some() { 0 } else { self.config.capacity.saturating_sub(self.in_flight()) };
        self.queue.extend(batch.drain(..room.min(batch.len())));
        self.call();
        if batch.is_empty() { Ok(()) } else { Err(Full) }
    }

    /// Answers as they come from the library, unchecked; what it declined is recovered here.
    fn poll(&mut self, out: &mut Vec<RecoverAnswer>) -> usize {
        self.drain(|claim, request| {
            let result = match claim.verdict {
                Verdict::Signer { address, .. } => Ok(address),
                Verdict::Invalid(error) => Err(error),
                Verdict::Declined(_) => software::recover(request),
            };
            out.push(RecoverAnswer { tag: claim.tag, result });
        })
    }

    fn in_flight(&self) -> usize {
        self.queue.len() + self.calling.len()
    }
}

impl ClaimEngine for PluginEngine {
    fn poll_claims(&mut self, out: &mut Vec<Claim>) -> usize {
        self.drain(|claim, _| out.push(claim))
    }

    fn fault(&self) -> Option<String> {
        self.fault.clone()
    }

    fn restart(&mut self) -> Result<(), String> {
        let fresh = Self::start(self.config.clone(), self.waker.clone())?;
        *self = fresh;
        Ok(())
    }
}
