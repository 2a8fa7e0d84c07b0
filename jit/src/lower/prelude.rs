//! The two small functions at the start of every text.

use crate::context::{Exit, offset};
use cranelift_codegen::{
    ir::{AbiParam, Function, InstBuilder, MemFlagsData, Signature, UserFuncName, Value, types::I64},
    isa::{CallConv, OwnedTargetIsa},
};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// The signature of regions: `(context, sp, gas, entry) -> exit`.
pub(super) fn region_signature() -> Signature {
    let mut signature = Signature::new(CallConv::Tail);
    signature.params.extend([AbiParam::new(I64); 4]);
    signature.returns.push(AbiParam::new(I64));
    signature
}

/// The trampoline: see [`crate::context::TrampolineFn`].
pub fn trampoline(isa: &OwnedTargetIsa, builder: &mut FunctionBuilderContext) -> Function {
    let mut signature = Signature::new(isa.default_call_conv());
    signature.params.extend([AbiParam::new(I64); 5]);
    signature.returns.push(AbiParam::new(I64));
    let mut function = Function::with_name_signature(UserFuncName::user(0, 0), signature);
    let mut b = FunctionBuilder::new(&mut function, builder);
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let params: Vec<Value> = b.block_params(block).to_vec();
    let callee = b.import_signature(region_signature());
    let call = b.ins().call_indirect(callee, params[4], &params[..4]);
    let exit = b.inst_results(call)[0];
    b.ins().return_(&[exit]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());
    function
}

/// The stub that entries without code lead to: leaves for the interpreter.
pub fn stub(isa: &OwnedTargetIsa, builder: &mut FunctionBuilderContext) -> Function {
    let mut function = Function::with_name_signature(UserFuncName::user(0, 1), region_signature());
    let mut b = FunctionBuilder::new(&mut function, builder);
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let params: Vec<Value> = b.block_params(block).to_vec();
    for (field, value) in [(offset::SP, params[1]), (offset::GAS, params[2]), (offset::EXIT, params[3])] {
        b.ins().store(MemFlagsData::trusted(), value, params[0], field);
    }
    let exit = b.ins().iconst(I64, Exit::NotCompiled as i64);
    b.ins().return_(&[exit]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());
    function
}
