//! Which tests the newest kernel runs unless all are asked for (`--tier vm-newest`): those of what no other kernel of
//! the tests has, and enough beside to know that a node works on it. All others have run on other kernels already,
//! and what is the newest changes by itself.

/// Programs of tests, with what the names of their tests begin with.
const SELECTED: &[(&str, &[&str])] = &[
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

/// Whether a test is selected.
pub(super) fn selects(program: &str, test: &str) -> bool {
    let of_program = SELECTED.iter().filter(|(name, _)| *name == program);
    of_program.flat_map(|(_, tests)| *tests).any(|begin| test.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn tests_are_selected_by_what_their_names_begin_with() {
        assert!(selects("host/kernel/tests/devices", "netkit::an_l3_pair_is_born_complete"));
        assert!(!selects("host/kernel/tests/devices", "veth::a_pair_is_born_complete"));
        assert!(!selects("host/kernel/tests/links", "netkit::an_l3_pair_is_born_complete"));
    }

    /// Whoever renames a test would take it out of this tier otherwise.
    #[test]
    fn each_line_of_the_table_is_the_name_of_a_test() {
        for (program, begins) in SELECTED {
            let folder = workspace::root().join(program);
            for begin in *begins {
                let (module, test) = begin.rsplit_once("::").unwrap_or(("main", begin));
                let file = folder.join(format!("{module}.rs"));
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                assert!(text.contains(&format!("fn {test}")), "{program} has no test {begin}");
            }
        }
    }
}
