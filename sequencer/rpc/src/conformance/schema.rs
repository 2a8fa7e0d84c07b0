//! JSON Schema, as much of it as `openrpc.json` uses.

use super::pattern;
use serde_json::{Map, Value};
use std::path::Path;

/// Result schemas by method.
pub(super) struct Schemas(Map<String, Value>);

impl Schemas {
    /// None at all when the file is missing or unreadable: then every check says so.
    pub(super) fn load(path: &Path) -> Self {
        let read = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let mut schemas = Map::new();
        for method in read.iter().filter_map(|root| root["methods"].as_array()).flatten() {
            if let (Some(name), Some(schema)) = (method["name"].as_str(), method["result"].get("schema")) {
                schemas.insert(name.into(), schema.clone());
            }
        }
        Schemas(schemas)
    }

    /// Whether an answer is of the kind expected (a result or an error), and a result as its schema says.
    pub(super) fn check(&self, request: &str, expected: &Value, got: &Value) -> Result<(), String> {
        if expected.get("error").is_some() || got.get("error").is_some() {
            return super::compare(expected, got);
        }
        let request: Value = serde_json::from_str(request).map_err(|error| error.to_string())?;
        let method = request["method"].as_str().unwrap_or_default();
        let schema = self.0.get(method).ok_or_else(|| format!("openrpc.json has no schema for {method}"))?;
        validate("result", schema, &got["result"])
    }
}

fn validate(at: &str, schema: &Value, value: &Value) -> Result<(), String> {
    let list = |name: &str| schema[name].as_array();
    if let Some(options) = list("oneOf").or(list("anyOf")) {
        let tried: Vec<_> = options.iter().map(|option| validate(at, option, value)).collect();
        if !tried.iter().any(Result::is_ok) {
            let reasons: Vec<_> = tried.into_iter().filter_map(Result::err).collect();
            return Err(format!("{at} fits none of the alternatives: {}", reasons.join("; ")));
        }
    }
    for part in list("allOf").into_iter().flatten() {
        validate(at, part, value)?;
    }
    if let Some(kind) = schema["type"].as_str()
        && !is_of(kind, value)
    {
        return Err(format!("{at} is not of type {kind}"));
    }
    if let Some(allowed) = list("enum")
        && !allowed.contains(value)
    {
        return Err(format!("{at} is not one of the values allowed"));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !pattern::matches(pattern, text)
    {
        return Err(format!("{at} does not match {pattern}"));
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (index, value) in values.iter().enumerate() {
            validate(&format!("{at}[{index}]"), items, value)?;
        }
    }
    value.as_object().map_or(Ok(()), |object| validate_object(at, schema, object))
}

fn validate_object(at: &str, schema: &Value, object: &Map<String, Value>) -> Result<(), String> {
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            return Err(format!("{at}.{name} is missing"));
        }
    }
    for (name, value) in object {
        let inside = format!("{at}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(property), _) => validate(&inside, property, value)?,
            (None, Value::Bool(false)) => return Err(format!("{inside} is not allowed")),
            (None, rest @ Value::Object(_)) => validate(&inside, rest, value)?,
            (None, _) => {}
        }
    }
    Ok(())
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_held_against_their_schema() {
        let schema = json!({
            "type": "object",
            "required": ["a"],
            "additionalProperties": false,
            "properties": {
                "a": {"type": "string", "pattern": "^0x[0-9a-f]{2}$"},
                "b": {"type": "array", "items": {"oneOf": [{"type": "null"}, {"type": "integer"}]}},
            },
        });
        assert!(validate("r", &schema, &json!({"a": "0x0f", "b": [1, null]})).is_ok());
        for wrong in [
            json!({}),
            json!({"a": "0xf"}),
            json!({"a": "0x00", "b": ["x"]}),
            json!({"a": "0x00", "c": 1}),
            json!(1),
        ] {
            assert!(validate("r", &schema, &wrong).is_err(), "{wrong}");
        }
    }
}
