//! The process of a card: how it meets its host, and what it computes with.

use super::mutant::{self, Mutant};
use super::{Compute, Device, Honest, Software};
use crate::abi;
use crate::backend::plugin::Library;
use crate::backend::ring::CardError;
use crate::backend::ring::link::CardLink;
use crate::backend::ring::os;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// How a card meets its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meeting {
    /// The host started this process; the socket's number is in `IRONLANE_OFFLOAD_FD`.
    Inherited,
    /// Listen on this Unix socket, one host after the other.
    Listen(PathBuf),
    /// Make this file and serve the region in it (level L2 without hardware).
    Device {
        /// The region.
        path: PathBuf,
        /// Ring entries that fit into it.
        entries: u32,
        /// File that stands for a page of device registers; the doorbell is its first word.
        register: Option<PathBuf>,
    },
}

/// What a card computes with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engine {
    /// libsecp256k1.
    Software,
    /// A plug-in of level L0: its path and its options. This is how an L0 library gets a process of its own.
    Plugin(PathBuf, String),
    /// The software card with the fault of this name.
    Mutant(String),
}

/// Serves until the host leaves (or, listening, for ever).
///
/// # Errors
/// [`CardError`] when the host cannot be met or the engine not opened.
pub fn run(meeting: &Meeting, engine: &Engine) -> Result<(), CardError> {
    match meeting {
        Meeting::Inherited => {
            let number = std::env::var(abi::SOCKET_FD_VARIABLE).ok().and_then(|text| text.parse().ok());
            let number = number.ok_or_else(|| {
                CardError::Setup(format!(
                    "{} names no descriptor: this card was not started by a host; use --listen or --device",
                    abi::SOCKET_FD_VARIABLE
                ))
            })?;
            let socket = os::inherited_socket(number).map_err(CardError::Io)?;
            serve(CardLink::accept(socket)?, engine)
        }
        Meeting::Listen(path) => {
            let listener = UnixListener::bind(path).map_err(|e| CardError::open(path, &e))?;
            for socket in listener.incoming() {
                let result = socket
                    .map_err(CardError::Io)
                    .and_then(CardLink::accept)
                    .and_then(|link| serve(link, engine));
                if let Err(error) = result {
                    eprintln!("a host was turned away or lost: {error}");
                }
            }
            Ok(())
        }
        Meeting::Device { path, entries, register } => {
            serve(CardLink::create_file(path, *entries, register.as_deref())?, engine)
        }
    }
}

fn serve(link: CardLink, engine: &Engine) -> Result<(), CardError> {
    let never = AtomicBool::new(false);
    match engine {
        Engine::Software => Device::new(link, Software, Honest).run(&never),
        Engine::Plugin(path, options) => {
            let library = Library::open(path, options).map_err(CardError::Setup)?;
            let compute: Box<dyn Compute> = Box::new(library);
            Device::new(link, compute, Honest).run(&never);
        }
        Engine::Mutant(name) => {
            let fault = mutant::all().into_iter().find(|fault| fault.name == *name).ok_or_else(|| {
                CardError::Setup(format!("there is no mutant {name}; `ironlane offload mutants` lists them"))
            })?;
            Device::new(link, Software, Mutant::new(&fault)).run(&never);
        }
    }
    Ok(())
}

/// Reads the command line of a card process: `[--listen PATH | --device PATH [--entries N] [--register PATH]]
/// [--plugin PATH[,OPTIONS] | --mutant NAME]`.
///
/// # Errors
/// A sentence about the argument that was not understood.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<(Meeting, Engine), String> {
    let (mut meeting, mut engine) = (Meeting::Inherited, Engine::Software);
    let mut size = 4_096;
    let mut page = None;
    let mut arguments = arguments.into_iter();
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--software" => engine = Engine::Software,
            "--listen" => meeting = Meeting::Listen(value()?.into()),
            "--device" => {
                meeting = Meeting::Device { path: value()?.into(), entries: size, register: None };
            }
            "--entries" => size = value()?.parse().map_err(|_| "--entries needs a number".to_string())?,
            "--register" => page = Some(PathBuf::from(value()?)),
            "--plugin" => {
                let text = value()?;
                let (path, options) = text.split_once(',').unwrap_or((&text, ""));
                engine = Engine::Plugin(path.into(), options.into());
            }
            "--mutant" => engine = Engine::Mutant(value()?),
            _ => return Err(format!("{name} is not an option of a card")),
        }
    }
    if !size.is_power_of_two() || !(abi::ENTRIES_MIN..=abi::ENTRIES_MAX).contains(&size) {
        return Err("--entries needs a power of two from 2 to 65536".into());
    }
    if let Meeting::Device { entries, register, .. } = &mut meeting {
        (*entries, *register) = (size, page);
    }
    Ok((meeting, engine))
}
