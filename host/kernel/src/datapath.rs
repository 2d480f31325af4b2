//! The BPF datapath: its maps, its endpoint programs, socket-LB.
