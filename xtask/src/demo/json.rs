//! Reading JSON where a missing field is as good as `null`.

use serde_json::Value;

static NULL: Value = Value::Null;

/// The value at a path, "shards/0/range"; `null` if there is none.
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(&format!("/{path}")).unwrap_or(&NULL)
}

/// The value at a path as people write it: text without quotes.
pub fn text(value: &Value, path: &str) -> String {
    match at(value, path) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_field_is_null() {
        let value = serde_json::json!({ "a": [{ "b": 1 }] });
        assert_eq!(*at(&value, "a/0/b"), 1);
        assert!(at(&value, "a/1/b").is_null());
    }
}
