//! Questions that run the EVM: on threads of their own, so many at once, each bounded in gas, time and memory.

use crate::RpcStats;
use crate::api::{Api, CallBlock};
use crate::error::{Answer, Failure, code};
use crate::json::quantity;
use crate::params::{Args, BlockArg};
use alloy_primitives::{Bytes, U256, hex};
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest, state::StateOverride};
use ironlane_executor::StoreError;
use ironlane_executor::simulate::{SimulateError, SimulateLimits, Simulation};
use ironlane_state::StateView;
use ironlane_types::BlockContext;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

pub(crate) async fn call(api: &Api, args: &Args) -> Answer {
    let (simulation, block) = arguments(args)?;
    let simulator = api.simulator.clone();
    run(api, block, move |view, context, limits| {
        let outcome = simulator.call(view, &context, &simulation, &limits)?;
        Ok(json!(outcome.output))
    })
    .await
}

pub(crate) async fn estimate_gas(api: &Api, args: &Args) -> Answer {
    let (simulation, block) = arguments(args)?;
    let simulator = api.simulator.clone();
    run(api, block, move |view, context, limits| {
        Ok(quantity(simulator.estimate_gas(view, &context, &simulation, &limits)?))
    })
    .await
}

pub(crate) async fn create_access_list(api: &Api, args: &Args) -> Answer {
    let (simulation, block) = arguments(args)?;
    let simulator = api.simulator.clone();
    run(api, block, move |view, context, limits| {
        let outcome = simulator.create_access_list(view, &context, &simulation, &limits)?;
        let mut out = json!({ "accessList": outcome.access_list, "gasUsed": quantity(outcome.gas_used) });
        if let (Some(error), Some(out)) = (outcome.error, out.as_object_mut()) {
            out.insert("error".into(), json!(error));
        }
        Ok(out)
    })
    .await
}

/// Transaction, block, state overrides, block overrides.
fn arguments(args: &Args) -> Answer<(Simulation, BlockArg)> {
    let request: TransactionRequest = args.required(0)?;
    let block = args.optional(1)?.unwrap_or(BlockArg::Latest);
    let state: Option<StateOverride> = args.optional(2)?;
    let overrides: Option<BlockOverrides> = args.optional(3)?;
    Ok((Simulation { request, state, block: overrides }, block))
}

async fn run(
    api: &Api,
    block: BlockArg,
    body: impl FnOnce(StateView, BlockContext, SimulateLimits) -> Result<Value, SimulateError> + Send + 'static,
) -> Answer {
    let waiting = Waiting::enter(api)?;
    let permit = api.calls.clone().acquire_owned().await;
    let permit = permit.map_err(|_| Failure::server("the node is stopping"))?;
    drop(waiting);
    let (view, target) = api.call_target(block)?;
    let context = match target {
        CallBlock::Open(context) => (*context).clone(),
        CallBlock::Sealed(header) => api.ctx.spec.context_of(&header, None, Vec::new()),
    };
    let limits = SimulateLimits {
        gas: api.config.call_gas_max,
        time: api.config.call_time_max,
        memory_bytes: api.config.call_memory_max,
    };
    let answer = tokio::task::spawn_blocking(move || {
        let answer = body(view, context, limits);
        drop(permit);
        answer
    });
    answer
        .await
        .map_err(|_| Failure::new(code::INTERNAL, "internal error: the call failed"))?
        .map_err(failure)
}

/// A place in the queue before the call threads.
struct Waiting<'a>(&'a Api);

impl<'a> Waiting<'a> {
    fn enter(api: &'a Api) -> Answer<Self> {
        let waiting = api.calls_waiting.fetch_add(1, Ordering::AcqRel);
        let entered = Waiting(api);
        if waiting >= api.config.calls_waiting_max {
            RpcStats::add(&api.stats.refused_calls);
            return Err(Failure::limit("too many calls are waiting: try again later"));
        }
        Ok(entered)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.calls_waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

fn failure(error: SimulateError) -> Failure {
    match error {
        SimulateError::Reverted(output) => reverted(&output),
        SimulateError::Request(text) => Failure::params(text),
        SimulateError::Store(StoreError::Expired(_)) => Failure::state_gone("asked for"),
        SimulateError::Timeout(_) | SimulateError::Memory(_) => {
            Failure::new(code::RESOURCE_UNAVAILABLE, error.to_string())
        }
        SimulateError::Evm(_) => {
            tracing::error!(%error, "a simulation failed in revm");
            Failure::new(code::INTERNAL, error.to_string())
        }
        error => Failure::server(error.to_string()),
    }
}

fn reverted(output: &Bytes) -> Failure {
    let message = match reason(output) {
        Some(reason) => format!("execution reverted: {reason}"),
        None => "execution reverted".to_string(),
    };
    Failure::new(code::REVERTED, message).with_data(hex::encode_prefixed(output))
}

/// The text of Solidity's `Error(string)`, or what its `Panic(uint256)` stands for.
fn reason(output: &[u8]) -> Option<String> {
    let (selector, rest) = output.split_at_checked(4)?;
    let word = |at: usize| rest.get(at..at.checked_add(32)?).map(U256::from_be_slice);
    match selector {
        [0x08, 0xc3, 0x79, 0xa0] => {
            let start = usize::try_from(word(0)?).ok()?;
            let len = usize::try_from(word(start)?).ok()?;
            let from = start.checked_add(32)?;
            let text = rest.get(from..from.checked_add(len)?)?;
            Some(String::from_utf8_lossy(text).into_owned())
        }
        [0x4e, 0x48, 0x7b, 0x71] => Some(panic_text(word(0)?)),
        _ => None,
    }
}

fn panic_text(code: U256) -> String {
    match u64::try_from(code) {
        Ok(0x00) => "generic panic".into(),
        Ok(0x01) => "assert(false)".into(),
        Ok(0x11) => "arithmetic underflow or overflow".into(),
        Ok(0x12) => "division or modulo by zero".into(),
        Ok(0x21) => "enum overflow".into(),
        Ok(0x22) => "invalid encoded storage byte array accessed".into(),
        Ok(0x31) => "out-of-bounds array access; popping on an empty array".into(),
        Ok(0x32) => "out-of-bounds access of an array or bytesN".into(),
        Ok(0x41) => "out of memory".into(),
        Ok(0x51) => "uninitialized function".into(),
        _ => format!("unknown panic code: {code:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revert_data_is_read_and_nonsense_is_left_alone() {
        let text = hex::decode("08c379a00000000000000000000000000000000000000000000000000000000000000020000000000000000000000000000000000000000000000000000000000000000a75736572206572726f72").unwrap();
        assert_eq!(reason(&text).unwrap(), "user error");
        let panic =
            hex::decode("4e487b710000000000000000000000000000000000000000000000000000000000000011").unwrap();
        assert_eq!(reason(&panic).unwrap(), "arithmetic underflow or overflow");
        for cut in 0..text.len() {
            assert_eq!(reason(&text[..cut]), None);
        }
        let mut huge = text.clone();
        huge[4..36].fill(0xff);
        assert_eq!(reason(&huge), None);
        assert_eq!(reason(&[1, 2, 3]), None);
    }
}
