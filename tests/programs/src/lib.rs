//! Small BPF programs as a third party would write them, compiled: for tests, also where there is no clang, and for
//! the demo.

include!(concat!(env!("OUT_DIR"), "/objects.rs"));
