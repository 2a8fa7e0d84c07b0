//! The thread that copies sealed blocks from memory into the archive and lets memory go of what is over the budget.
//!
//! In: blocks in [`Memory`](crate::memory::Memory) above the archive's newest. Out: the archive, and freed memory. When
//! the disk refuses to write (no space), it tries again every second and publication waits once the budget is full;
//! when a sync fails, it stops for good, because the system may have dropped what it had not written.

use crate::HistoryError;
use crate::history::Shared;
use crate::memory::{EVICT_STEP, Recent};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::{Duration, Instant};

const RETRY: Duration = Duration::from_secs(1);

/// What the writer and its callers tell one another.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    state: Mutex<State>,
    work: Condvar,
    progress: Condvar,
}

#[derive(Debug, Default)]
struct State {
    work: bool,
    closing: bool,
    /// Flushes asked for, and done.
    flushes_wanted: u64,
    flushes_done: u64,
    /// Why the archive takes nothing more.
    stopped: Option<String>,
    /// Why the last attempt failed, while it is tried again.
    failing: Option<String>,
}

impl Signals {
    /// Something was published.
    pub(crate) fn wake(&self) {
        self.state.lock().work = true;
        self.work.notify_one();
    }

    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_one();
    }

    /// Waits until all that was published before this call is archived and synced, or cannot be now.
    pub(crate) fn flush(&self) -> Result<(), HistoryError> {
        let mut state = self.state.lock();
        state.flushes_wanted += 1;
        let mine = state.flushes_wanted;
        self.work.notify_one();
        while state.flushes_done < mine && state.stopped.is_none() {
            self.progress.wait(&mut state);
        }
        match state.stopped.as_ref().or(state.failing.as_ref()) {
            Some(why) => Err(HistoryError::ArchiveStopped(why.clone())),
            None => Ok(()),
        }
    }

    /// Why the archive cannot take blocks now, if so.
    pub(crate) fn trouble(&self) -> Option<String> {
        let state = self.state.lock();
        state.stopped.clone().or_else(|| state.failing.clone())
    }

    /// Waits for progress of the writer while `over_budget` holds.
    pub(crate) fn wait_for_room(&self, over_budget: impl Fn() -> bool) -> Result<(), HistoryError> {
        loop {
            if let Some(why) = &self.state.lock().stopped {
                return Err(HistoryError::ArchiveStopped(why.clone()));
            }
            if !over_budget() {
                return Ok(());
            }
            let mut state = self.state.lock();
            self.progress.wait_for(&mut state, Duration::from_millis(50));
        }
    }
}

/// The thread's body.
pub(crate) fn run(shared: &Arc<Shared>) {
    let signals = &shared.signals;
    let sync_interval = Duration::from_millis(shared.config.sync_interval_ms.max(1));
    let mut last_sync = Instant::now();
    let mut retry_at: Option<Instant> = None;
    loop {
        let (closing, flushes) = {
            let mut state = signals.state.lock();
            let due = |state: &State| state.closing || state.flushes_wanted > state.flushes_done;
            if !due(&state) && (!state.work || retry_at.is_some()) {
                let dirty =
                    shared.archive.as_ref().is_some_and(|archive| archive.written() != archive.synced());
                match retry_at.or(dirty.then(|| last_sync + sync_interval)) {
                    Some(at) => {
                        signals.work.wait_until(&mut state, at);
                    }
                    None => signals.work.wait(&mut state),
                }
            }
            state.work = false;
            (state.closing, state.flushes_wanted)
        };
        let flush = closing || signals.state.lock().flushes_done < flushes;
        if flush || retry_at.is_none_or(|at| at <= Instant::now()) {
            let result = archive_all(shared).and_then(|()| {
                if flush || last_sync.elapsed() >= sync_interval {
                    last_sync = Instant::now();
                    return shared.archive.as_ref().map_or(Ok(()), |archive| archive.sync());
                }
                Ok(())
            });
            let mut state = signals.state.lock();
            retry_at = None;
            state.flushes_done = flushes;
            match result {
                Ok(()) => state.failing = None,
                Err(HistoryError::ArchiveStopped(why)) => {
                    tracing::error!(%why, "the archive stopped");
                    state.stopped = Some(why);
                }
                Err(error) => {
                    tracing::error!(%error, "the archive cannot be written now; trying again in a second");
                    state.failing = Some(error.to_string());
                    retry_at = Some(Instant::now() + RETRY);
                }
            }
        }
        signals.progress.notify_all();
        let mut state = signals.state.lock();
        if closing || state.stopped.is_some() {
            if state.stopped.is_none() {
                state.stopped = Some("the history is closed".into());
            }
            drop(state);
            signals.progress.notify_all();
            return;
        }
    }
}

fn archive_all(shared: &Shared) -> Result<(), HistoryError> {
    if let Some(archive) = &shared.archive {
        while let Some(next) = next_to_archive(shared, archive.written()) {
            archive.append(&next)?;
            evict(shared);
            shared.signals.progress.notify_all();
        }
    }
    evict(shared);
    Ok(())
}

fn next_to_archive(shared: &Shared, written: Option<u64>) -> Option<Recent> {
    let memory = shared.memory.read();
    let first = memory.recent.front()?.block.header.number;
    let next = written.map_or(first, |written| first.max(written + 1));
    memory.block(next).cloned()
}

/// Lets go of the oldest blocks that are archived (all are, without an archive) until the budget is met.
fn evict(shared: &Shared) {
    let archived = |number: u64| {
        shared
            .archive
            .as_ref()
            .is_none_or(|archive| archive.written().is_some_and(|written| number <= written))
    };
    loop {
        let oldest = {
            let mut memory = shared.memory.write();
            let over = memory.bytes > shared.config.memory_bytes;
            let may = memory.recent.front().is_some_and(|oldest| archived(oldest.block.header.number));
            if !over || !may {
                return;
            }
            memory.pop_oldest()
        };
        let Some(oldest) = oldest else { return };
        // In steps, so that the commit stage never waits long for the lock.
        for txs in oldest.block.txs.chunks(EVICT_STEP) {
            shared.memory.write().forget(oldest.block.header.number, txs);
        }
    }
}
