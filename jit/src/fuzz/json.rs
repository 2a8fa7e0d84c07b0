//! Cases out of the JSON that contract collections come in: pre-state with transactions, or state tests.

use super::case::{Case, CaseAccount, parse_spec};
use alloy_primitives::{Address, Bytes, U256, hex};
use revm::primitives::hardfork::SpecId;
use serde_json::Value;

impl Case {
    /// The cases of a file: an object of names, each with `pre`, `env` and `transaction`, which is a list of transactions
    /// or that of a state test, its lists crossed by `post`. Transactions of a list get the newest stable fork.
    ///
    /// # Errors
    /// A sentence that says what is missing.
    pub fn from_json(text: &str) -> Result<Vec<(String, Self)>, String> {
        let file: Value = serde_json::from_str(text).map_err(|error| format!("this is no JSON: {error}"))?;
        let mut cases = Vec::new();
        for (name, test) in file.as_object().ok_or("this is no object of named cases")? {
            let env = &test["env"];
            let base = Self {
                accounts: accounts(&test["pre"])?,
                number: number(&env["currentNumber"]).unwrap_or(1),
                timestamp: number(&env["currentTimestamp"]).unwrap_or(1),
                ..Self::default()
            };
            let before = cases.len();
            match &test["transaction"] {
                Value::Array(list) => {
                    for transaction in list {
                        let case = Self {
                            sender: address(&transaction["sender"])?,
                            to: recipient(&transaction["to"])?,
                            value: word(&transaction["value"]).unwrap_or_default(),
                            data: bytes(&transaction["data"])?,
                            gas_limit: number(&transaction["gasLimit"])
                                .ok_or("a transaction has no gasLimit")?,
                            ..base.clone()
                        };
                        cases.push((name.clone(), case));
                    }
                }
                transaction => {
                    for (fork, expected) in test["post"].as_object().ok_or("there is no transaction")? {
                        let spec = parse_spec(fork).unwrap_or(SpecId::OSAKA);
                        for post in expected.as_array().into_iter().flatten() {
                            let pick = |list: &str, index: &str| {
                                &transaction[list][number(&post["indexes"][index]).unwrap_or(0) as usize]
                            };
                            let case = Self {
                                spec,
                                sender: address(&transaction["sender"])?,
                                to: recipient(&transaction["to"])?,
                                value: word(pick("value", "value")).unwrap_or_default(),
                                data: bytes(pick("data", "data"))?,
                                gas_limit: number(pick("gasLimit", "gas")).ok_or("there is no gasLimit")?,
                                ..base.clone()
                            };
                            cases.push((name.clone(), case));
                        }
                    }
                }
            }
            // Several of one name are told apart by their numbers.
            if cases.len() - before > 1 {
                for (index, (name, _)) in cases[before..].iter_mut().enumerate() {
                    name.push_str(&format!("#{index}"));
                }
            }
        }
        Ok(cases)
    }
}

fn accounts(pre: &Value) -> Result<Vec<CaseAccount>, String> {
    let pre = pre.as_object().ok_or("there is no pre-state")?;
    pre.iter()
        .map(|(at, account)| {
            let storage = account["storage"].as_object();
            let slots = storage.into_iter().flatten().map(|(key, value)| {
                Ok((key.parse().map_err(|_| "a slot's key is no number")?, word(value).unwrap_or_default()))
            });
            Ok(CaseAccount {
                address: at.parse().map_err(|_| format!("`{at}` is no address"))?,
                balance: word(&account["balance"]).unwrap_or_default(),
                nonce: number(&account["nonce"]).unwrap_or(0),
                code: bytes(&account["code"])?,
                storage: slots.collect::<Result<_, String>>()?,
            })
        })
        .collect()
}

fn recipient(value: &Value) -> Result<Option<Address>, String> {
    match value.as_str() {
        None | Some("") => Ok(None),
        Some(_) => address(value).map(Some),
    }
}

fn address(value: &Value) -> Result<Address, String> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{value} is no address"))
}

fn bytes(value: &Value) -> Result<Bytes, String> {
    let text = value.as_str().unwrap_or_default();
    hex::decode(text).map(Bytes::from).map_err(|_| "code or data is not hexadecimal".into())
}

fn word(value: &Value) -> Option<U256> {
    value.as_str()?.parse().ok()
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| word(value)?.try_into().ok())
}
