//! `ironlane run`.

use crate::cli::RunArgs;
use crate::commands::print_json;
use crate::node;
use anyhow::{Context, bail};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How often the running node is asked whether it halted.
const WATCH_EVERY: Duration = Duration::from_millis(20);

/// Runs the node until a signal or a halt.
pub fn run(args: &RunArgs) -> anyhow::Result<()> {
    let config = args.config()?;
    crate::signals::ignore_file_size_signal();
    let node = node::start(&config)?;
    for choice in &node.choices {
        tracing::info!("{choice}");
    }
    let at = &node.addresses;
    tracing::info!(chain = at.chain_id, sequencer = %at.sequencer, head = at.head_block, "ironlane is up");
    tracing::info!("JSON-RPC   http://{0}  ws://{0}", at.http);
    tracing::info!("ingest     {}", at.ingest);
    tracing::info!("console    http://{}", at.metrics);
    if at.chain_id == 31337 && config.genesis.is_none() {
        tracing::info!("development accounts: the ten of Anvil and Hardhat, 10000 ether each");
    }
    if args.json {
        print_json(at)?;
    }
    // Signals are awaited on a runtime of their own: the node's belongs to the node.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the signal handlers cannot be installed")?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut watch = tokio::time::interval(WATCH_EVERY);
        loop {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                _ = watch.tick() => if node.halt_reason().is_some() { break },
            }
        }
        anyhow::Ok(())
    })?;
    tracing::info!("stopping");
    match node.stop()? {
        None => Ok(()),
        Some(halt) => bail!("the node halted: {halt}"),
    }
}
