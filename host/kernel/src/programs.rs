//! BPF programs: loading any ELF, verifier logs, pins.
