//! Legacy tc: clsact and direct-action BPF filters.
