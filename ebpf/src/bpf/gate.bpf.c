// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Moves a program from one place to another such that each packet meets it exactly once.
 *
 * nl_gate_old stands in the old place and nl_gate_new in the new one; each lets the packet through to the program
 * that is moved, by a tail call, or passes it on to the next in the chain. Which of them does is decided packet by
 * packet by nl_turn, in front of both: the kernel runs a packet through a chain as it was when the packet came, so
 * one that nl_turn saw takes the new place and one that it did not see takes the old one.
 *
 * The decision is kept a CPU: packets run through their chains one after the other on each, and none changes its
 * CPU in between. Once a CPU has seen nl_turn, all its packets do.
 */
#include "kernel.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nl_turned SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nl_moved SEC(".maps");

static __always_inline __u32 *turned(void)
{
	__u32 first = 0;

	return bpf_map_lookup_elem(&nl_turned, &first);
}

SEC("classifier")
int nl_gate_old(struct __sk_buff *skb)
{
	__u32 *new_place = turned();

	if (!new_place || !*new_place)
		bpf_tail_call(skb, &nl_moved, 0);
	return TC_ACT_UNSPEC;
}

SEC("classifier")
int nl_gate_new(struct __sk_buff *skb)
{
	__u32 *new_place = turned();

	if (new_place && *new_place)
		bpf_tail_call(skb, &nl_moved, 0);
	return TC_ACT_UNSPEC;
}

SEC("classifier")
int nl_turn(struct __sk_buff *skb __attribute__((unused)))
{
	__u32 *new_place = turned();

	if (new_place)
		*new_place = 1;
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "GPL";
