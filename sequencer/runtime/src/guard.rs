//! A panic in any part of the node ends the whole process: half a node would go on acknowledging what it no longer
//! executes.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::thread::JoinHandle;

thread_local! {
    /// The stage that this thread is polling.
    static STAGE: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Names the stage that runs on this thread from now on.
pub(crate) fn set_stage(stage: Option<&'static str>) {
    STAGE.set(stage);
}

/// Makes the message of a panic name the stage. The hook that was there before still prints its own.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Some(stage) = STAGE.get() {
                let thread = std::thread::current();
                let lane = thread.name().unwrap_or("unnamed");
                // Not through tracing: its subscriber may be what panicked, and this must get out.
                eprintln!("the stage {stage} on lane {lane} panicked; the process ends");
            }
            before(info);
        }));
    });
}

/// Runs `body`; if it panics, the process aborts (in a build that unwinds too).
pub(crate) fn or_abort(name: &str, body: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        eprintln!("thread {name} panicked, so the whole process ends");
        std::process::abort();
    }
}

/// Starts a thread beside the lanes (a recovery worker, a background job): named, pinned to `core` where one is given and
/// the kernel agrees, and with the same rule for panics as a lane.
///
/// # Errors
///
/// When the system has no room for another thread.
pub fn spawn_worker(
    name: &str,
    core: Option<usize>,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    install_hook();
    let label = name.to_owned();
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        pin(&label, core);
        or_abort(&label, body);
    })
}

/// Pins the calling thread. A refusal is not fatal: the node runs, only less evenly.
pub(crate) fn pin(name: &str, core: Option<usize>) {
    // `core_affinity::get_core_ids` lists neither isolated cores nor, once one thread is bound, any other: so it is not
    // asked, and the kernel decides.
    if let Some(id) = core
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        tracing::warn!(lane = name, core = id, "the kernel refused to pin this thread: it runs unpinned");
    }
}
