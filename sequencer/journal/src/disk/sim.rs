//! A disk in memory that fails on demand, the same way for the same seed.
//!
//! It knows what is *stable* and what merely *looks* written. [`SimDisk::crash`] is a power cut: stable bytes survive, of
//! everything else any subset of 512-byte sectors. Names are stable at once, as [`Folder`] promises.

use super::{Device, FileId, Folder, Waker, Write, Written};
use crate::format::BLOCK;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR: usize = 512;

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default, Clone)]
struct SimFile {
    /// What a reader sees.
    now: Vec<u8>,
    /// What survives a power cut.
    stable: Vec<u8>,
}

struct State {
    random: u64,
    clock: u64,
    files: BTreeMap<String, SimFile>,
    under_way: Vec<(u64, String, Write)>,
    /// Rises at each crash: devices of an earlier life are dead.
    life: u64,
    faults: Faults,
    writes: u64,
    power_off: bool,
}

/// What shall go wrong. Everything off by default.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Most polls that a write takes; 0: it is there at the next poll.
    pub slow_polls_max: u64,
    /// The device write with this number (from 0) fails with this error number; its bytes look written.
    pub fail_write: Option<(u64, i32)>,
    /// The device write with this number (from 0) ends after half of its blocks, or in the middle of its only one.
    pub short_write: Option<u64>,
    /// Bytes that all files together may have.
    pub capacity: Option<u64>,
    /// Reads of this file that touch this offset fail with EIO.
    pub fail_read: Option<(String, u64)>,
    /// The power goes off after so many more changes (writes, renames, removals), in the middle of the last.
    pub power_off_after: Option<u64>,
}

/// The device of one life of the disk.
pub struct SimDevice {
    disk: SimDisk,
    life: u64,
    files: Vec<Option<String>>,
}

impl State {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn used(&self) -> u64 {
        self.files.values().map(|f| f.now.len() as u64).sum()
    }

    /// Copies sectors of `data` to the stable bytes: none, all, a prefix, or any subset.
    fn tear(&mut self, name: &str, offset: u64, data: &[u8]) {
        let style = self.next() % 4;
        let sectors = data.len().div_ceil(SECTOR) as u64;
        let prefix = if sectors == 0 { 0 } else { self.next() % sectors };
        for sector in 0..sectors {
            let keep = match style {
                0 => false,
                1 => true,
                2 => sector < prefix,
                _ => self.next() & 1 == 1,
            };
            if keep && let Some(file) = self.files.get_mut(name) {
                let from = sector as usize * SECTOR;
                let to = (from + SECTOR).min(data.len());
                overlay(&mut file.stable, offset as usize + from, &data[from..to]);
            }
        }
    }

    fn crash(&mut self) {
        for (_, name, write) in std::mem::take(&mut self.under_way) {
            self.tear(&name, write.offset, &write.buf[write.range.clone()]);
        }
        let names: Vec<String> = self.files.keys().cloned().collect();
        for name in names {
            let file = &self.files[&name];
            if file.now != file.stable {
                let now = file.now.clone();
                self.tear(&name, 0, &now);
            }
            if let Some(file) = self.files.get_mut(&name) {
                file.now = file.stable.clone();
            }
        }
        self.life += 1;
        self.power_off = false;
        self.faults.power_off_after = None;
    }

    /// Counts a change; `Err`: the power has gone, and with `true` it goes in the middle of this one.
    fn change(&mut self) -> Result<(), bool> {
        if self.power_off {
            return Err(false);
        }
        if let Some(left) = &mut self.faults.power_off_after {
            if *left == 0 {
                self.power_off = true;
                return Err(true);
            }
            *left -= 1;
        }
        Ok(())
    }
}

fn power_cut() -> io::Error {
    io::Error::other("the power is off")
}

fn overlay(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    if bytes.len() < at + data.len() {
        bytes.resize(at + data.len(), 0);
    }
    bytes[at..at + data.len()].copy_from_slice(data);
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: seed,
            clock: 0,
            files: BTreeMap::new(),
            under_way: Vec::new(),
            life: 0,
            faults: Faults::default(),
            writes: 0,
            power_off: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what shall go wrong from now on; counts of writes begin again at 0.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.state();
        state.faults = faults;
        state.writes = 0;
    }

    /// A power cut, and the power back on: whatever was not stable is lost, in whole or in parts.
    pub fn crash(&self) {
        self.state().crash();
    }

    /// The process dies, the machine lives: writes under way complete, everything that looks written stays. With the power
    /// off it is a [`SimDisk::crash`].
    pub fn kill(&self) {
        let mut state = self.state();
        if state.power_off {
            return state.crash();
        }
        for (_, name, write) in std::mem::take(&mut state.under_way) {
            if let Some(file) = state.files.get_mut(&name) {
                overlay(&mut file.now, write.offset as usize, &write.buf[write.range.clone()]);
            }
        }
        state.life += 1;
    }

    /// A disk and device for [`crate::Journal::open_on`], with entropy of their own.
    pub fn disk(&self) -> crate::Disk {
        let mut entropy = [0; 32];
        let life = {
            let mut state = self.state();
            entropy.chunks_mut(8).for_each(|c| c.copy_from_slice(&state.next().to_le_bytes()));
            state.life
        };
        crate::Disk {
            folder: Arc::new(self.clone()),
            device: Box::new(SimDevice { disk: self.clone(), life, files: Vec::new() }),
            entropy,
            background: false,
            status: "simulated disk".into(),
        }
    }

    /// The bytes of a file as they are now.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        self.state().files.get(name).map(|f| f.now.clone())
    }

    /// Puts a file in place, stable at once.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        self.state().files.insert(name.to_owned(), SimFile { now: bytes.clone(), stable: bytes });
    }

    /// A second disk with the same bytes, and randomness of its own.
    pub fn copy(&self, seed: u64) -> Self {
        let copy = Self::new(seed);
        copy.state().files = self.state().files.clone();
        copy
    }
}

impl Folder for SimDisk {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        Ok(self.state().files.iter().map(|(name, f)| (name.clone(), f.now.len() as u64)).collect())
    }

    fn read(&self, name: &str, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let state = self.state();
        let file = state.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let from = (offset as usize).min(file.now.len());
        let n = out.len().min(file.now.len() - from);
        if let Some((bad, at)) = &state.faults.fail_read
            && bad == name
            && (offset..offset + n as u64).contains(at)
        {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        out[..n].copy_from_slice(&file.now[from..from + n]);
        Ok(n)
    }

    fn write(&self, name: &str, offset: u64, data: &[u8], sync: bool) -> io::Result<()> {
        let mut state = self.state();
        let now = state.files.get(name).map_or(0, |f| f.now.len() as u64);
        let grows = (offset + data.len() as u64).saturating_sub(now);
        if state.faults.capacity.is_some_and(|c| state.used() + grows > c) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let change = state.change();
        if change == Err(false) {
            return Err(power_cut());
        }
        let file = state.files.entry(name.to_owned()).or_default();
        overlay(&mut file.now, offset as usize, data);
        if change.is_err() {
            return Err(power_cut());
        }
        if sync {
            file.stable = file.now.clone();
        }
        Ok(())
    }

    fn cut(&self, name: &str, len: u64) -> io::Result<()> {
        let mut state = self.state();
        state.change().map_err(|_| power_cut())?;
        let file = state.files.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        file.now.truncate(len as usize);
        file.stable.truncate(len as usize);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change().map_err(|_| power_cut())?;
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.change().map_err(|_| power_cut())?;
        state.files.remove(name).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Device for SimDevice {
    fn attach(&mut self, name: &str) -> io::Result<FileId> {
        if !self.disk.state().files.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.files.push(Some(name.to_owned()));
        Ok(FileId(self.files.len() as u32 - 1))
    }

    fn detach(&mut self, file: FileId) {
        self.files[file.0 as usize] = None;
    }

    fn submit(&mut self, writes: &mut Vec<Write>) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.life != self.life {
            writes.clear();
            return Err(power_cut());
        }
        for write in writes.drain(..) {
            let name = self.files.get(write.file.0 as usize).and_then(Clone::clone);
            let name = name.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
            if state.change() == Err(false) {
                continue;
            }
            let slow = state.faults.slow_polls_max;
            let due = state.clock + 1 + if slow == 0 { 0 } else { state.next() % slow };
            state.under_way.push((due, name, write));
        }
        Ok(())
    }

    fn poll(&mut self) -> Option<Written> {
        let mut state = self.disk.state();
        if state.life != self.life || state.power_off {
            return None;
        }
        state.clock += 1;
        let clock = state.clock;
        let at = state.under_way.iter().position(|(due, ..)| *due <= clock)?;
        let (_, name, write) = state.under_way.swap_remove(at);
        let number = state.writes;
        state.writes += 1;
        let mut bytes = write.range.len();
        if state.faults.short_write == Some(number) {
            bytes = if bytes > BLOCK { bytes / 2 / BLOCK * BLOCK } else { bytes / 2 };
        }
        let failed = state.faults.fail_write.filter(|(nth, _)| *nth == number);
        let data = write.range.start..write.range.start + bytes;
        let offset = write.offset as usize;
        let file = state.files.entry(name).or_default();
        overlay(&mut file.now, offset, &write.buf[data.clone()]);
        if let Some((_, errno)) = failed {
            return Some(Written { write, result: Err(io::Error::from_raw_os_error(errno)) });
        }
        overlay(&mut file.stable, offset, &write.buf[data]);
        Some(Written { write, result: Ok(bytes) })
    }

    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    fn waker(&self) -> Waker {
        Waker::none()
    }
}
