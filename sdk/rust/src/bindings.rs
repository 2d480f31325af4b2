//! What wit-bindgen generates from `wit/`: once for the imports, then once a hook over the same types.
//!
//! Each hook is a world of its own, so that a component exports the hooks its plugin names and no other. The
//! imports nobody calls are dropped when the component is encoded.
#![allow(unsafe_code, reason = "the generated canonical-ABI glue reads and writes linear memory")]
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
#![allow(
    clippy::indexing_slicing,
    clippy::semicolon_if_nothing_returned,
    clippy::undocumented_unsafe_blocks,
    clippy::uninlined_format_args,
    clippy::unwrap_used,
    reason = "generated"
)]

pub mod ambient {
    wit_bindgen::generate!({
        path: ["../../wit/kernel", "../../wit/policy"],
        world: "netloom:policy/ambient",
        generate_unused_types: true,
        generate_all,
        additional_derives: [Clone, PartialEq, Eq, Hash],
    });
}

pub mod operations {
    wit_bindgen::generate!({
        path: ["../../wit/kernel", "../../wit/policy"],
        world: "netloom:policy/operations",
        generate_all,
        additional_derives: [Clone, PartialEq, Eq, Hash],
        with: { "netloom:kernel/types@0.1.0": crate::bindings::ambient::netloom::kernel::types },
    });
}

macro_rules! hook {
    ($module:ident, $world:literal) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: ["../../wit/kernel", "../../wit/policy"],
                world: $world,
                pub_export_macro: true,
                additional_derives: [Clone, PartialEq, Eq, Hash],
                with: {
                    "netloom:kernel/types@0.1.0": crate::bindings::ambient::netloom::kernel::types,
                    "netloom:kernel/log@0.1.0": crate::bindings::ambient::netloom::kernel::log,
                    "netloom:kernel/config@0.1.0": crate::bindings::ambient::netloom::kernel::config,
                    "netloom:kernel/kv@0.1.0": crate::bindings::ambient::netloom::kernel::kv,
                    "netloom:kernel/metrics@0.1.0": crate::bindings::ambient::netloom::kernel::metrics,
                },
            });
        }
    };
}

hook!(attach_order, "netloom:policy/attach-order-plugin");
hook!(datapath_mode, "netloom:policy/datapath-mode-plugin");
hook!(socket_reap, "netloom:policy/socket-reap-plugin");
hook!(lifecycle, "netloom:policy/lifecycle-plugin");
