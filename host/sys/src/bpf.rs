//! bpf(2) commands that aya does not have.
