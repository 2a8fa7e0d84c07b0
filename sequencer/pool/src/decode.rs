//! From EIP-2718 bytes to an envelope, its signature and the payload that was signed, in one pass and without copying
//! the call data. Only the canonical encoding is taken, so that encoding the envelope again gives the same bytes.

use crate::rlp::{Invalid, Reader, write_list_header};
use alloy_consensus::{Signed, TxEip1559, TxEip2930, TxEip7702, TxLegacy};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use ironlane_types::{Reject, TxEnvelope};

/// A decoded transaction whose signer is not known yet.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) envelope: TxEnvelope,
    pub(crate) r: U256,
    pub(crate) s: U256,
    pub(crate) parity: u8,
}

impl From<Invalid> for Reject {
    fn from(_: Invalid) -> Self {
        Reject::Malformed
    }
}

/// Decodes `raw`, whose Keccak-256 is `hash`, and appends what its signer signed to `signed`.
///
/// On an error `signed` may have been appended to; the caller cuts it back.
pub(crate) fn decode(raw: &Bytes, hash: B256, signed: &mut Vec<u8>) -> Result<Decoded, Reject> {
    match raw.first() {
        None => Err(Reject::Malformed),
        Some(0xc0..) => legacy(raw, hash, signed),
        Some(1) => eip2930(raw, hash, signed),
        Some(2) => eip1559(raw, hash, signed),
        Some(3) => Err(Reject::BlobUnsupported),
        Some(4) => eip7702(raw, hash, signed),
        Some(0..=0x7f) => Err(Reject::UnknownType),
        // A transaction wrapped in an RLP string, as it stands in network messages.
        Some(_) => Err(Reject::Malformed),
    }
}

/// The fields of one transaction, with the place where the signature begins remembered.
struct Fields<'a> {
    raw: &'a Bytes,
    payload: &'a [u8],
    reader: Reader<'a>,
}

impl<'a> Fields<'a> {
    fn open(raw: &'a Bytes, skip: usize) -> Result<Self, Reject> {
        let mut outer = Reader::new(&raw[skip..]);
        let reader = outer.list()?;
        outer.end()?;
        Ok(Self { raw, payload: reader.rest(), reader })
    }

    /// A price or fee. What exceeds 128 bits cannot be paid by anybody.
    fn fee(&mut self) -> Result<u128, Reject> {
        let fee = self.reader.wide()?.ok_or(Reject::InsufficientFunds)?;
        fee.try_into().map_err(|_| Reject::InsufficientFunds)
    }

    fn to(&mut self) -> Result<TxKind, Reject> {
        let to = self.reader.string()?;
        match to.len() {
            0 => Ok(TxKind::Create),
            20 => Ok(TxKind::Call(Address::from_slice(to))),
            _ => Err(Reject::Malformed),
        }
    }

    fn input(&mut self) -> Result<Bytes, Reject> {
        let input = self.reader.string()?;
        Ok(if input.is_empty() { Bytes::new() } else { self.raw.slice_ref(input) })
    }

    fn access_list(&mut self) -> Result<AccessList, Reject> {
        let mut entries = self.reader.list()?;
        let mut items = vec![];
        while !entries.rest().is_empty() {
            let mut entry = entries.list()?;
            let address = Address::from(entry.fixed::<20>()?);
            let mut keys = entry.list()?;
            let mut storage_keys = Vec::with_capacity(keys.rest().len() / 33);
            while !keys.rest().is_empty() {
                storage_keys.push(B256::from(keys.fixed::<32>()?));
            }
            entry.end()?;
            items.push(AccessListItem { address, storage_keys });
        }
        Ok(AccessList(items))
    }

    fn authorizations(&mut self) -> Result<Vec<SignedAuthorization>, Reject> {
        let mut entries = self.reader.list()?;
        let mut list = vec![];
        while !entries.rest().is_empty() {
            let mut entry = entries.list()?;
            let inner = Authorization {
                chain_id: entry.u256()?,
                address: Address::from(entry.fixed::<20>()?),
                nonce: entry.u64()?,
            };
            // An authorization that is not valid is skipped by execution, but it must fit its types (EIP-7702).
            let parity = u8::try_from(entry.u64()?).map_err(|_| Reject::Malformed)?;
            let (r, s) = (entry.u256()?, entry.u256()?);
            entry.end()?;
            list.push(SignedAuthorization::new_unchecked(inner, parity, r, s));
        }
        Ok(list)
    }

    /// The unsigned fields: everything before the signature that is about to be read.
    fn unsigned(&self) -> &'a [u8] {
        &self.payload[..self.payload.len() - self.reader.rest().len()]
    }

    /// r and s, which end the transaction.
    fn rs(mut self) -> Result<(U256, U256), Reject> {
        let (r, s) = (self.reader.wide()?, self.reader.wide()?);
        self.reader.end()?;
        Ok((r.ok_or(Reject::BadSignature)?, s.ok_or(Reject::BadSignature)?))
    }

    /// Parity, r and s of a typed transaction; appends its signing payload (EIP-2718: the type, then the unsigned list).
    fn typed_signature(mut self, kind: u8, signed: &mut Vec<u8>) -> Result<(u8, U256, U256), Reject> {
        let unsigned = self.unsigned();
        let parity = self.reader.wide()?;
        let (r, s) = self.rs()?;
        let parity = match parity {
            Some(p) if p <= U256::ONE => p.to::<u8>(),
            _ => return Err(Reject::BadSignature),
        };
        signed.push(kind);
        write_list_header(unsigned.len(), signed);
        signed.extend_from_slice(unsigned);
        Ok((parity, r, s))
    }
}

fn finish<T>(tx: T, hash: B256, (parity, r, s): (u8, U256, U256)) -> Decoded
where
    Signed<T>: Into<TxEnvelope>,
{
    let envelope = Signed::new_unchecked(tx, Signature::new(r, s, parity == 1), hash).into();
    Decoded { envelope, r, s, parity }
}

fn legacy(raw: &Bytes, hash: B256, signed: &mut Vec<u8>) -> Result<Decoded, Reject> {
    let mut fields = Fields::open(raw, 0)?;
    let mut tx = TxLegacy {
        chain_id: None,
        nonce: fields.reader.u64()?,
        gas_price: fields.fee()?,
        gas_limit: fields.reader.u64()?,
        to: fields.to()?,
        value: fields.reader.u256()?,
        input: fields.input()?,
    };
    let unsigned = fields.unsigned();
    let v = fields.reader.wide()?;
    let (r, s) = fields.rs()?;
    let v: u64 = v.and_then(|v| v.try_into().ok()).ok_or(Reject::BadSignature)?;
    let parity = match v {
        27 | 28 => (v - 27) as u8,
        // EIP-155: v = 35 + 2 × chain id + parity.
        35.. => {
            tx.chain_id = Some((v - 35) / 2);
            ((v - 35) % 2) as u8
        }
        _ => return Err(Reject::BadSignature),
    };
    let mut suffix = [0u8; 11];
    let mut suffix_length = 0;
    if let Some(chain_id) = tx.chain_id {
        // EIP-155: (…, chain id, 0, 0) is signed.
        let bytes = chain_id.to_be_bytes();
        let digits = &bytes[chain_id.leading_zeros() as usize / 8..];
        match digits {
            [digit @ 1..=0x7f] => suffix[0] = *digit,
            _ => {
                suffix[0] = 0x80 + digits.len() as u8;
                suffix[1..=digits.len()].copy_from_slice(digits);
                suffix_length = digits.len();
            }
        }
        suffix[suffix_length + 1] = 0x80;
        suffix[suffix_length + 2] = 0x80;
        suffix_length += 3;
    }
    write_list_header(unsigned.len() + suffix_length, signed);
    signed.extend_from_slice(unsigned);
    signed.extend_from_slice(&suffix[..suffix_length]);
    Ok(finish(tx, hash, (parity, r, s)))
}

fn eip2930(raw: &Bytes, hash: B256, signed: &mut Vec<u8>) -> Result<Decoded, Reject> {
    let mut fields = Fields::open(raw, 1)?;
    let tx = TxEip2930 {
        chain_id: fields.reader.u64()?,
        nonce: fields.reader.u64()?,
        gas_price: fields.fee()?,
        gas_limit: fields.reader.u64()?,
        to: fields.to()?,
        value: fields.reader.u256()?,
        input: fields.input()?,
        access_list: fields.access_list()?,
    };
    Ok(finish(tx, hash, fields.typed_signature(1, signed)?))
}

fn eip1559(raw: &Bytes, hash: B256, signed: &mut Vec<u8>) -> Result<Decoded, Reject> {
    let mut fields = Fields::open(raw, 1)?;
    let tx = TxEip1559 {
        chain_id: fields.reader.u64()?,
        nonce: fields.reader.u64()?,
        max_priority_fee_per_gas: fields.fee()?,
        max_fee_per_gas: fields.fee()?,
        gas_limit: fields.reader.u64()?,
        to: fields.to()?,
        value: fields.reader.u256()?,
        input: fields.input()?,
        access_list: fields.access_list()?,
    };
    Ok(finish(tx, hash, fields.typed_signature(2, signed)?))
}

fn eip7702(raw: &Bytes, hash: B256, signed: &mut Vec<u8>) -> Result<Decoded, Reject> {
    let mut fields = Fields::open(raw, 1)?;
    let tx = TxEip7702 {
        chain_id: fields.reader.u64()?,
        nonce: fields.reader.u64()?,
        max_priority_fee_per_gas: fields.fee()?,
        max_fee_per_gas: fields.fee()?,
        gas_limit: fields.reader.u64()?,
        to: match fields.to()? {
            TxKind::Call(to) => to,
            TxKind::Create => return Err(Reject::CreateWithAuthorizations),
        },
        value: fields.reader.u256()?,
        input: fields.input()?,
        access_list: fields.access_list()?,
        authorization_list: fields.authorizations()?,
    };
    Ok(finish(tx, hash, fields.typed_signature(4, signed)?))
}
