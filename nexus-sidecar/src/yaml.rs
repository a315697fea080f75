//! YAML files in which secrets stand: what is wrong is said with its place, never with what stands there.

use serde::de::DeserializeOwned;
use serde_saphyr::Error;

/// Reads a text. The error names line, column and field, and shows no line of the text and no value.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_saphyr::from_str(text).map_err(|error| without_values(error.without_snippet()))
}

fn without_values(error: &Error) -> String {
    match error {
        Error::SerdeInvalidType {
            unexpected,
            expected,
            location,
        }
        | Error::SerdeInvalidValue {
            unexpected,
            expected,
            location,
        } => {
            // `string "the value"`, `integer `7``
            let kind = unexpected.split(['"', '`']).next().unwrap_or_default();
            format!(
                "{} is not possible here, expected {expected} at line {}, column {}",
                kind.trim(),
                location.line(),
                location.column()
            )
        }
        other => other.to_string(),
    }
}
