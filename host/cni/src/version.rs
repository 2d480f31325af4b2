use serde_json::{Value, json};

use crate::failure::Failure;

/// A version of the CNI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SpecVersion {
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl SpecVersion {
    const ALL: [Self; 5] = [Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    pub(crate) const NEWEST: Self = Self::V1_1_0;

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version that a configuration is written in.
    pub(crate) fn of(config: &Value) -> Result<Self, Failure> {
        // The specification's first version had no such field.
        let text = config.get("cniVersion").and_then(Value::as_str).unwrap_or("0.1.0");
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| Failure::Version { asked: text.to_owned(), supported: Self::list() })
    }

    fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

/// The answer to VERSION. Old runtimes send nothing on stdin.
pub(crate) fn answer(text: &str) -> Result<Value, Failure> {
    let document: Value = if text.trim().is_empty() {
        Value::Null
    } else {
        serde_json::from_str(text).map_err(Failure::Decode)?
    };
    let version = document.get("cniVersion").and_then(Value::as_str).unwrap_or(SpecVersion::NEWEST.as_str());
    Ok(json!({ "cniVersion": version, "supportedVersions": SpecVersion::ALL.map(SpecVersion::as_str) }))
}
