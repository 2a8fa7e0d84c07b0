//! Appending allocates nothing: a record costs a copy and a checksum.
#![allow(unsafe_code)]

mod common;

use common::*;
use ironlane_journal::{Journal, SignerMark};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches only a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn appending_and_committing_allocate_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut config = small(dir.path());
    config.first_segment_bytes = 8 << 20;
    config.segment_bytes = 8 << 20;
    let (mut journal, recovery) = Journal::open(&config, 1, &mut |_, _| Ok(())).unwrap();
    let record = [9; 120];
    let commit = |journal: &mut Journal, records: usize| {
        for _ in 0..records {
            let height = journal.appended() + 1;
            journal
                .append(&[&record[..20], &record[20..]], Some(SignerMark { height, digest: [1; 32] }))
                .unwrap();
        }
        while journal.durable() < journal.appended() {
            journal.poll().unwrap();
        }
    };
    // The first commits grow the few lists there are.
    (0..50).for_each(|_| commit(&mut journal, 10));
    let before = ALLOCATIONS.with(Cell::get);
    (0..100).for_each(|_| commit(&mut journal, 50));
    let spent = ALLOCATIONS.with(Cell::get) - before;
    // A segment that arrives from the background is opened, which costs a few; the fallback's channel to its thread
    // allocates now and then.
    let allowed = if recovery.status.contains("io_uring") { 20 } else { 1000 };
    assert!(spent <= allowed, "{spent} allocations for 5000 records ({})", recovery.status);
}
