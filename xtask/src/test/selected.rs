//! Which tests a kernel runs unless all are asked for (`--tier vm-6.1` and so on).
//!
//! The newest runs those of what no other kernel of the tests has, and enough beside to know that a node works on it: what
//! it changes by itself. 6.12 and 6.1 run what has not passed on the running kernel in the same run, and of the rest what
//! each of them may do otherwise: 6.12 what is named after netkit, which is its default there, and 6.1 attachments, the
//! finding of sockets, and what an older verifier takes.

use super::tier::Tier;

/// Programs of tests, with what the names of their tests begin with.
type Selection = &'static [(&'static str, &'static [&'static str])];

const NEWEST: Selection = &[
    (
        "host/kernel/tests/devices",
        &[
            // What netkit has gained: headroom and tailroom, pairing, queues to lease.
            "netkit::an_l",
            "netkit::policies_change_and_stop_packets",
            "netkit::scrubbing_is_set_for_each_direction",
            "netkit::headroom_is_set",
            "pairs::queues_and_sizes_are_as_asked_for_and_shown",
            // Each capability is tried, and is there or not as the table of kernels says.
            "probing::every_feature_is_probed_with_a_reason",
            "probing::the_kernel_has_what_the_table_says",
            // Namespaces are listed by the kernel.
            "namespaces::",
        ],
    ),
    ("host/kernel/tests/datapath", &["forwarding::endpoints_reach_each_other_past_the_nodes_stack"]),
    ("host/kernel/tests/links", &["device::", "packets::the_chain_runs_in_order_until_a_verdict"]),
    ("host/kernel/tests/sockets", &["the_first_finder_is_taken_where_the_kernel_has_it"]),
    (
        "tests/netns/tests/node",
        &[
            "devices::a_netkit_pair_",
            "devices::the_node_says_what_its_kernel_can_do_and_what_for",
            "endpoints::netkit_is_chosen_where_the_kernel_has_it",
            "endpoints::deleting_takes_everything",
            "reaping::sockets_of_a_dead_backend_are_cut_in_every_endpoint",
        ],
    ),
];

const V6_12: Selection = &[
    ("host/kernel/tests/datapath", &["table::"]),
    ("host/kernel/tests/devices", &["namespaces::", "probing::"]),
    ("host/kernel/tests/links", &["device::"]),
    ("tests/demo/tests/demo", &["each_step_is_as_it_should_be"]),
    ("tests/netns/tests/equivalence", &["what_arrives"]),
    (
        "tests/netns/tests/node",
        &[
            "applications::a_client_that_connects_again_gets_a_living_backend",
            "crashes::adding_an_endpoint_is_undone_whole_at_every_step",
            "devices::a_crash_leaves_no_half_pair",
            "devices::the_node_says_what_its_kernel_can_do_and_what_for",
            "endpoints::a_spoofed_source_address_is_dropped_and_counted",
            "endpoints::bpftool_lists_each_chain_as_it_is_shown",
            "endpoints::deleting_takes_everything",
            "endpoints::endpoints_added_at_the_same_moment_share_nothing",
            "endpoints::two_endpoints_reach_each_other_and_the_node_through_the_datapath",
            "link::an_address_that_the_node_gets_later",
            "lost::",
            "modes::an_endpoint_goes_from_mode_to_mode",
            "outside::masquerading::without_configuration",
            "outside::packets_to_and_from_outside_pass_the_nodes_stack_by",
            "outside::stack::a_filter_for_forwarded_packets",
            "outside::stack::a_flow_that_",
            "outside::uplinks::packets_of_ipv6",
            "reaping::sockets_of_a_dead_backend_are_cut_in_every_endpoint",
            "restarts::a_daemon_with_larger_maps",
            "restarts::a_killed_daemon_loses_no_datagram",
            "services::each_answer_to_one_udp_socket",
            "services::ordinary_programs_see_the_service",
        ],
    ),
    ("tests/roundtrips/tests/counters", &["counters_equal"]),
    ("tests/roundtrips/tests/matrix", &["every_path_in_every_mode"]),
];

const V6_1: Selection = &[
    (
        "host/kernel/tests/datapath",
        &[
            "adoption::maps_",
            "forwarding::endpoints_reach_each_other_past_the_nodes_stack",
            "services::services_are_set_changed",
            "table::",
            "translation::",
        ],
    ),
    ("host/kernel/tests/devices", &["namespaces::", "probing::"]),
    ("host/kernel/tests/links", &["denied::", "legacy::", "objects::"]),
    ("host/kernel/tests/sockets", &[""]),
    ("tests/demo/tests/demo", &["each_step_is_as_it_should_be"]),
    (
        "tests/netns/tests/node",
        &[
            "applications::a_client_that_connects_again_gets_a_living_backend",
            "attachments::legacy_tc_has_the_same_order",
            "crashes::deleting_an_endpoint_is_finished_at_every_step",
            "endpoints::deleting_takes_everything",
            "endpoints::two_endpoints_reach_each_other_and_the_node_through_the_datapath",
            "outside::packets_to_and_from_outside_pass_the_nodes_stack_by",
            "reaping::sockets_of_a_dead_backend_are_cut_in_every_endpoint",
            "restarts::a_daemon_with_larger_maps",
            "restarts::a_killed_daemon_loses_no_datagram",
            "returning::a_program_on_legacy_tc",
        ],
    ),
];

/// Whether a kernel's tier runs a test. `passed_here`: on the running kernel, in this run.
pub(super) fn selects(tier: Tier, program: &str, test: &str, passed_here: bool) -> bool {
    let is_one = |selection: Selection| {
        let of_program = selection.iter().filter(|(name, _)| *name == program);
        of_program.flat_map(|(_, tests)| *tests).any(|begin| test.starts_with(begin))
    };
    match tier {
        Tier::VmNewest => is_one(NEWEST),
        Tier::Vm6_12 => !passed_here || test.contains("netkit") || is_one(V6_12),
        Tier::Vm6_1 => !passed_here || is_one(V6_1),
        Tier::Unit | Tier::Plugin | Tier::Netns => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn tests_are_selected_by_what_their_names_begin_with() {
        let devices = "host/kernel/tests/devices";
        assert!(selects(Tier::VmNewest, devices, "netkit::an_l3_pair_is_born_complete", true));
        assert!(!selects(Tier::VmNewest, devices, "veth::a_pair_is_born_complete", true));
        assert!(!selects(
            Tier::VmNewest,
            "host/kernel/tests/links",
            "netkit::an_l3_pair_is_born_complete",
            true
        ));
        assert!(selects(Tier::Vm6_1, "host/kernel/tests/sockets", "kinds::sock_diag_dump", true));
    }

    #[test]
    fn what_has_passed_on_the_running_kernel_runs_again_where_it_may_be_otherwise() {
        let again = |tier, test| selects(tier, "tests/netns/tests/node", test, true);
        assert!(again(Tier::Vm6_12, "moves::x::netkit_peer"));
        assert!(!again(Tier::Vm6_12, "moves::x::tcx_ingress"));
        assert!(again(Tier::Vm6_1, "returning::a_program_on_legacy_tc_x"));
        assert!(!again(Tier::Vm6_1, "services::x"));
        assert!(
            selects(Tier::Vm6_12, "tests/netns/tests/node", "moves::x::tcx_ingress", false),
            "it did not"
        );
    }

    /// Whoever renames a test would take it out of its tier otherwise.
    #[test]
    fn each_line_of_the_tables_is_the_name_of_a_test() {
        for (program, begins) in [NEWEST, V6_12, V6_1].into_iter().flatten() {
            let folder = workspace::root().join(program);
            for begin in *begins {
                let (module, test) = begin.rsplit_once("::").unwrap_or(("main", begin));
                let mut file = folder.join(format!("{}.rs", module.replace("::", "/")));
                if !folder.is_dir() {
                    file = folder.with_extension("rs");
                }
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                assert!(text.contains(&format!("fn {test}")), "{program} has no test {begin}");
            }
        }
    }
}
