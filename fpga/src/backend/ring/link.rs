//! How host and card come to share a region: a driver started by the node, a driver that listens on a Unix socket, a
//! device file, or (for tests) another thread.

use super::os::{self, EventFd};
use super::region::{self, Region};
use super::{CardError, Register};
use crate::abi;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a driver may take to answer the greeting.
const GREETING_LIMIT: Duration = Duration::from_secs(10);
/// How long a driver that was told to stop may take to leave before it is killed.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);
const HELLO_BYTES: usize = 24;
const WELCOME_BYTES: usize = 16;

/// What rings on the other side after the doorbell word was written.
pub(crate) enum Doorbell {
    /// Eventfds, each rung only while the other side says that it sleeps.
    Events { card: EventFd, host: EventFd },
    /// A device register to which the tail is written, every time.
    Register(RegisterBell),
    /// Nothing: the other side polls the word.
    Polled,
}

/// An open device register.
pub(crate) enum RegisterBell {
    /// In a mapped page.
    Mapped { page: Region, offset: usize },
    /// Reached by `pwrite`, as XDMA's user device is.
    Written { file: std::fs::File, offset: u64 },
}

impl RegisterBell {
    fn open(register: &Register) -> Result<Self, CardError> {
        let open = || OpenOptions::new().read(true).write(true).open(&register.path);
        let file = open().map_err(|e| CardError::open(&register.path, &e))?;
        if !register.offset.is_multiple_of(4) {
            return Err(CardError::Setup(format!(
                "the doorbell register's offset {:#x} is not a multiple of 4",
                register.offset
            )));
        }
        if register.mapped {
            let start = register.offset & !0xfff;
            let page = Region::map(&file, start, 4096).map_err(|e| CardError::open(&register.path, &e))?;
            Ok(Self::Mapped { page, offset: (register.offset - start) as usize })
        } else {
            Ok(Self::Written { file, offset: register.offset })
        }
    }

    /// Writes the tail. A register that cannot be written is as good as a card that hangs, and is found like one.
    pub(crate) fn write(&self, tail: u32) {
        match self {
            Self::Mapped { page, offset } => page.store(*offset, tail, Ordering::Release),
            Self::Written { file, offset } => {
                let _ = file.write_at(&tail.to_le_bytes(), *offset);
            }
        }
    }
}

/// The host's end.
pub(crate) struct Link {
    pub(crate) region: Arc<Region>,
    pub(crate) doorbell: Doorbell,
    /// Stays open as long as the driver lives.
    pub(crate) socket: Option<UnixStream>,
    child: Option<Child>,
}

/// The card's end.
pub(crate) struct CardLink {
    pub(crate) region: Arc<Region>,
    /// (rung by the host, to ring the host).
    pub(crate) events: Option<(EventFd, EventFd)>,
    pub(crate) socket: Option<UnixStream>,
    /// A mapped doorbell register of an L2 simulation, watched in place of the doorbell word.
    pub(crate) register: Option<(Region, usize)>,
}

impl Link {
    /// Host and card in one process, with eventfds.
    pub(crate) fn pair(entries: u32) -> Result<(Self, CardLink), CardError> {
        let bytes = abi::region_bytes(entries);
        let make = || -> std::io::Result<_> {
            let memory = region::sealed_memory(bytes)?;
            let (ours, theirs) = (Region::map(&memory, 0, bytes)?, Region::map(&memory, 0, bytes)?);
            let (card, host) = (EventFd::new()?, EventFd::new()?);
            let events = (card.try_clone()?, host.try_clone()?);
            Ok((ours, theirs, card, host, events))
        };
        let (ours, theirs, card, host, events) = make().map_err(CardError::Io)?;
        let link = Self {
            region: Arc::new(ours),
            doorbell: Doorbell::Events { card, host },
            socket: None,
            child: None,
        };
        let card = CardLink { region: Arc::new(theirs), events: Some(events), socket: None, register: None };
        Ok((link, card))
    }

    /// Starts the vendor's driver and greets it over an inherited socket.
    pub(crate) fn spawn(command: &[String], entries: u32) -> Result<Self, CardError> {
        let [program, arguments @ ..] = command else {
            return Err(CardError::Setup("the command that starts the driver is empty".into()));
        };
        let (ours, theirs) = UnixStream::pair().map_err(CardError::Io)?;
        let theirs = OwnedFd::from(theirs);
        let mut start = Command::new(program);
        start
            .args(arguments)
            .env(abi::SOCKET_FD_VARIABLE, theirs.as_raw_fd().to_string())
            .stdin(Stdio::null())
            // Standard output belongs to whoever reads the node's.
            .stdout(Stdio::null());
        os::keep_in_child(&mut start, &theirs);
        let child = start
            .spawn()
            .map_err(|e| CardError::Setup(format!("the driver {program} cannot be started: {e}")))?;
        drop(theirs);
        Self::greet(ours, entries, Some(child))
    }

    /// Connects to a driver that listens at `path`, run by one of `users`.
    pub(crate) fn connect(path: &Path, entries: u32, users: &[u32]) -> Result<Self, CardError> {
        let socket = UnixStream::connect(path).map_err(|e| CardError::open(path, &e))?;
        let uid = os::peer_uid(&socket).map_err(CardError::Io)?;
        let own = [0, os::own_uid()];
        let allowed = if users.is_empty() { &own } else { users };
        if !allowed.contains(&uid) {
            return Err(CardError::Setup(format!(
                "the driver at {} runs as user {uid}; allowed are {allowed:?} (name others in the configuration)",
                path.display()
            )));
        }
        Self::greet(socket, entries, None)
    }

    fn greet(socket: UnixStream, entries: u32, child: Option<Child>) -> Result<Self, CardError> {
        let bytes = abi::region_bytes(entries);
        let make = || -> std::io::Result<_> {
            let memory = region::sealed_memory(bytes)?;
            let region = Region::map(&memory, 0, bytes)?;
            socket.set_read_timeout(Some(GREETING_LIMIT))?;
            Ok((memory, region, EventFd::new()?, EventFd::new()?))
        };
        let (memory, region, card, host) = make().map_err(CardError::Io)?;
        let mut hello = [0; HELLO_BYTES];
        hello[..8].copy_from_slice(&abi::MAGIC.to_le_bytes());
        hello[8..12].copy_from_slice(&abi::VERSION.to_le_bytes());
        hello[16..].copy_from_slice(&(bytes as u64).to_le_bytes());
        let sent = os::send_with_fds(&socket, &hello, &[memory.as_fd(), card.as_fd(), host.as_fd()]);
        // From here on the child ends with the link.
        let mut link = Self {
            region: Arc::new(region),
            doorbell: Doorbell::Events { card, host },
            socket: Some(socket),
            child,
        };
        sent.map_err(|e| CardError::Setup(format!("the driver took no greeting: {e}")))?;
        let mut welcome = [0; WELCOME_BYTES];
        if let Some(socket) = &mut link.socket {
            socket
                .read_exact(&mut welcome)
                .map_err(|e| CardError::Setup(format!("the driver did not answer the greeting: {e}")))?;
        }
        let word =
            |at: usize| u32::from_le_bytes([welcome[at], welcome[at + 1], welcome[at + 2], welcome[at + 3]]);
        let version = word(8);
        if welcome[..8] != abi::MAGIC.to_le_bytes() || version >> 16 != abi::VERSION >> 16 {
            return Err(CardError::Setup("the driver answered the greeting in another language".into()));
        }
        match word(12) {
            0 => Ok(link),
            status => Err(CardError::Setup(format!("the driver refused the region with status {status}"))),
        }
    }

    /// Maps a device file that holds the region from `offset` on.
    pub(crate) fn map(
        path: &Path,
        offset: u64,
        entries: u32,
        register: Option<&Register>,
    ) -> Result<Self, CardError> {
        let open = OpenOptions::new().read(true).write(true).open(path);
        let file = open.map_err(|e| CardError::open(path, &e))?;
        let bytes = abi::region_bytes(entries);
        let meta = file.metadata().map_err(CardError::Io)?;
        if !meta.file_type().is_char_device() && meta.len() < offset + bytes as u64 {
            return Err(CardError::Setup(format!(
                "{} has {} bytes; rings of {entries} entries from offset {offset} on need {}",
                path.display(),
                meta.len(),
                offset + bytes as u64
            )));
        }
        let region = Region::map(&file, offset, bytes).map_err(|e| CardError::open(path, &e))?;
        let doorbell = match register {
            Some(register) => Doorbell::Register(RegisterBell::open(register)?),
            None => Doorbell::Polled,
        };
        Ok(Self { region: Arc::new(region), doorbell, socket: None, child: None })
    }

    /// Rings the card after the doorbell word was written.
    pub(crate) fn ring(&self, tail: u32) {
        match &self.doorbell {
            Doorbell::Events { card, .. } => {
                std::sync::atomic::fence(Ordering::SeqCst);
                if self.region.load(abi::card_page::WAITS, Ordering::Relaxed) != 0 {
                    card.ring();
                }
            }
            Doorbell::Register(register) => register.write(tail),
            Doorbell::Polled => {}
        }
    }

    /// Rings whatever the card says about sleeping: for commands, which are rare.
    pub(crate) fn ring_for_command(&self) {
        if let Doorbell::Events { card, .. } = &self.doorbell {
            card.ring();
        }
    }

    /// Whether the driver's process or its end of the socket is gone.
    pub(crate) fn vanished(&self) -> bool {
        self.socket.as_ref().is_some_and(os::hung_up)
    }

    /// Process of a driver that this node started.
    pub(crate) fn child_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.region.store(abi::host_page::COMMAND, abi::command::STOP, Ordering::Release);
        self.ring_for_command();
        self.socket = None;
        if let Some(child) = &mut self.child {
            let deadline = Instant::now() + LEAVE_LIMIT;
            while Instant::now() < deadline {
                if !matches!(child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(2));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl CardLink {
    /// The driver's half of the greeting.
    pub(crate) fn accept(mut socket: UnixStream) -> Result<Self, CardError> {
        let uid = os::peer_uid(&socket).map_err(CardError::Io)?;
        if uid != os::own_uid() && uid != 0 && os::own_uid() != 0 {
            return Err(CardError::Setup(format!("a host of user {uid} may not use this card")));
        }
        socket.set_read_timeout(Some(GREETING_LIMIT)).map_err(CardError::Io)?;
        let mut hello = [0; HELLO_BYTES];
        let fds = os::receive_with_fds(&socket, &mut hello)
            .map_err(|e| CardError::Setup(format!("no greeting came: {e}")))?;
        let result = Self::open(&hello, fds);
        let mut welcome = [0; WELCOME_BYTES];
        welcome[..8].copy_from_slice(&abi::MAGIC.to_le_bytes());
        welcome[8..12].copy_from_slice(&abi::VERSION.to_le_bytes());
        welcome[12..].copy_from_slice(&u32::from(result.is_err()).to_le_bytes());
        socket.write_all(&welcome).map_err(CardError::Io)?;
        let (region, events) = result?;
        Ok(Self { region: Arc::new(region), events: Some(events), socket: Some(socket), register: None })
    }

    fn open(hello: &[u8; HELLO_BYTES], fds: Vec<OwnedFd>) -> Result<(Region, (EventFd, EventFd)), CardError> {
        let setup = |text: &str| CardError::Setup(text.into());
        let version = u32::from_le_bytes([hello[8], hello[9], hello[10], hello[11]]);
        if hello[..8] != abi::MAGIC.to_le_bytes() || version >> 16 != abi::VERSION >> 16 {
            return Err(setup("the host greets in another language"));
        }
        let mut eight = [0; 8];
        eight.copy_from_slice(&hello[16..]);
        let bytes = usize::try_from(u64::from_le_bytes(eight)).unwrap_or(usize::MAX);
        if bytes < abi::region_bytes(abi::ENTRIES_MIN) || bytes > abi::region_bytes(abi::ENTRIES_MAX) {
            return Err(setup("the host's region has an impossible size"));
        }
        let [memory, card, host] =
            <[OwnedFd; 3]>::try_from(fds).map_err(|_| setup("the greeting lacks descriptors"))?;
        if !region::is_sealed(&memory) {
            return Err(setup("the host's region could be cut short; it must be sealed"));
        }
        let region = Region::map(&memory, 0, bytes).map_err(CardError::Io)?;
        let card = EventFd::adopt(card).map_err(CardError::Io)?;
        let host = EventFd::adopt(host).map_err(CardError::Io)?;
        Ok((region, (card, host)))
    }

    /// Creates the file of an L2 simulation: a region for rings of `entries` entries, polled; with `register`, the
    /// doorbell register's page follows in the file of that name.
    pub(crate) fn create_file(path: &Path, entries: u32, register: Option<&Path>) -> Result<Self, CardError> {
        let make = |path: &Path, bytes: usize| -> Result<Region, CardError> {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(|e| CardError::open(path, &e))?;
            file.set_len(bytes as u64).map_err(CardError::Io)?;
            Region::map(&file, 0, bytes).map_err(|e| CardError::open(path, &e))
        };
        let region = make(path, abi::region_bytes(entries))?;
        // What an earlier card left must not be taken for ours.
        region.clear(0, abi::RINGS);
        let register = register.map(|path| make(path, 4096)).transpose()?.map(|page| (page, 0));
        Ok(Self { region: Arc::new(region), events: None, socket: None, register })
    }
}
