use std::collections::BTreeMap;

/// Labels of an endpoint or an attachment, in the style of container labels.
pub type Labels = BTreeMap<String, String>;
