//! A card in software: the other end of the offload ABI's rings, for tests, simulations, and to give a plug-in of level
//! L0 a process of its own. `ironlane offload card` is the same.

use ironlane_fpga::card::serve;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = serve::parse(std::env::args().skip(1))
        .and_then(|(meeting, engine)| serve::run(&meeting, &engine).map_err(|e| e.to_string()));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("ironlane-card: {reason}");
            ExitCode::FAILURE
        }
    }
}
