//! Netloom's BPF programs, built and embedded, and the layout of their maps.
