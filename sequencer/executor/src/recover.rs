//! From a block's transaction bytes to [`Tx`]: decoding and sender recovery on the CPU, for imports and tests. The
//! node's own transactions are authenticated in batches before they come here.

use alloy_consensus::{Transaction, TxType, crypto::secp256k1};
use alloy_eips::{Decodable2718, Encodable2718};
use alloy_primitives::{Bytes, keccak256};
use ironlane_types::{Tx, TxEnvelope};
use revm::primitives::hardfork::SpecId;

/// Decodes canonical EIP-2718 bytes and recovers the sender, by the rules of `spec` for signatures: low s from
/// Homestead on (EIP-2), a chain id in a legacy signature from Spurious Dragon on (EIP-155).
pub fn decode_transaction(raw: Bytes, spec: SpecId) -> Result<Tx, String> {
    let mut rest = &raw[..];
    let envelope = TxEnvelope::decode_2718(&mut rest).map_err(|e| e.to_string())?;
    if !rest.is_empty() {
        return Err(format!("{} bytes follow the transaction", rest.len()));
    }
    let tx = recover_transaction(envelope, spec)?;
    if tx.raw != raw {
        return Err("the transaction is not canonically encoded".into());
    }
    Ok(tx)
}

/// Recovers the sender of a decoded transaction, by the rules of `spec` for signatures.
pub fn recover_transaction(envelope: TxEnvelope, spec: SpecId) -> Result<Tx, String> {
    if envelope.tx_type() == TxType::Legacy
        && envelope.chain_id().is_some()
        && !spec.is_enabled_in(SpecId::SPURIOUS_DRAGON)
    {
        return Err("the signature carries a chain id, which no fork before Spurious Dragon knows".into());
    }
    let hash = envelope.signature_hash();
    let sender = if spec.is_enabled_in(SpecId::HOMESTEAD) {
        secp256k1::recover_signer(envelope.signature(), hash)
    } else {
        secp256k1::recover_signer_unchecked(envelope.signature(), hash)
    }
    .map_err(|e| format!("no sender: {e}"))?;
    let raw = Bytes::from(envelope.encoded_2718());
    Ok(Tx { hash: keccak256(&raw), sender, envelope, raw })
}
