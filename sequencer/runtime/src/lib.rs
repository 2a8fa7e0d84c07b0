//! Stages, rings and lanes.
//!
//! A [`Stage`] is a polled state machine; a *lane* is a thread that owns one or several of them; a [`ring`] is the bounded
//! link from one stage to another; a [`Doorbell`] wakes a lane that sleeps. Which stage runs on which lane, on which core,
//! behind how deep a ring, is data: a [`Topology`]. A [`Builder`] turns it into threads.
//!
//! ```
//! use ironlane_runtime::{Builder, Stage, Topology};
//! struct Count(ironlane_runtime::Consumer<u32>, std::sync::Arc<std::sync::atomic::AtomicU32>);
//! impl Stage for Count {
//!     fn name(&self) -> &'static str { "admit" }
//!     fn poll(&mut self, budget: usize) -> usize {
//!         let mut done = 0;
//!         while done < budget {
//!             let Some(n) = self.0.pop() else { break };
//!             self.1.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
//!             done += 1;
//!         }
//!         done
//!     }
//! }
//! let total = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
//! let mut builder = Builder::new(Topology::profile("duo").unwrap()).unwrap();
//! let (mut to_admit, from_ingest) = builder.ring::<u32>("ingest-admit").unwrap();
//! builder.stage(Box::new(Count(from_ingest, total.clone()))).unwrap();
//! let running = builder.start().unwrap();
//! to_admit.push(7).unwrap();
//! while total.load(std::sync::atomic::Ordering::Relaxed) != 7 { std::thread::yield_now(); }
//! running.shutdown();
//! ```

mod builder;
mod clock;
mod doorbell;
mod gauge;
mod guard;
mod host;
mod lane;
mod placement;
mod ring;
mod sys;
mod topology;

pub use builder::{BuildError, Builder, Running};
pub use clock::{Clock, HostClock, SimulatedClock, WallClock, now_ns};
pub use doorbell::Doorbell;
pub use gauge::LaneGauge;
pub use guard::spawn_worker;
pub use host::read_host;
pub use lane::Stage;
pub use placement::{Cores, place};
pub use ring::{Consumer, Gauge, Producer, ring, ring_between};
pub use topology::{AuthWorkers, Lane, Link, Policy, Topology, TopologyError, WhenFull};
