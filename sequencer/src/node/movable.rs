//! An executor that may be handed to another thread.
#![allow(unsafe_code)]

use ironlane_executor::Executor;
use std::ops::{Deref, DerefMut};

/// Recovery fills the executor on one thread, then a lane goes on with it on another. revm's context is not `Send`,
/// because it shares a scratch buffer with its frames through an `Rc`, and because an interpreter points into its code.
pub struct MovableExecutor(Executor);

// SAFETY: what makes the executor not `Send` is the `Rc` of revm's `LocalContext` and the code pointers of interpreters in
// its frame stack. Both are reachable through this value alone: the fields are private to the executor, which hands out
// no clone of the `Rc` and no interpreter, and the code that the pointers point into is held, by an atomic count, in the
// same frame. So the whole graph moves together, and only one thread has it at any time.
unsafe impl Send for MovableExecutor {}

impl MovableExecutor {
    /// Takes the executor over.
    pub fn new(executor: Executor) -> Self {
        Self(executor)
    }
}

impl Deref for MovableExecutor {
    type Target = Executor;

    fn deref(&self) -> &Executor {
        &self.0
    }
}

impl DerefMut for MovableExecutor {
    fn deref_mut(&mut self) -> &mut Executor {
        &mut self.0
    }
}
