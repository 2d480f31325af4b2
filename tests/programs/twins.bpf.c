// SPDX-License-Identifier: Apache-2.0
/* Two programs in one object, with what a loader has to get right: a pinned map, a global and a field offset. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct sk_buff {
	unsigned int len;
} __attribute__((preserve_access_index));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} twin_packets SEC(".maps");

/* What both answer; set by the loader. */
const volatile int verdict = TC_ACT_UNSPEC;

static __always_inline int count(__u32 twin)
{
	__u64 *packets = bpf_map_lookup_elem(&twin_packets, &twin);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	/* Never true: there to make the compiler ask for the field's place. */
	if (bpf_core_field_offset(struct sk_buff, len) > 4096)
		return TC_ACT_SHOT;
	return verdict;
}

SEC("netkit/primary")
int castor(struct __sk_buff *skb __attribute__((unused)))
{
	return count(0);
}

SEC("netkit/peer")
int pollux(struct __sk_buff *skb __attribute__((unused)))
{
	return count(1);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
