// SPDX-License-Identifier: Apache-2.0
/* Counts every packet and byte it sees, and lets the next program decide. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct seen {
	__u64 packets;
	__u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct seen);
} observed SEC(".maps");

SEC("tc")
int observer(struct __sk_buff *skb)
{
	__u32 key = 0;
	struct seen *seen = bpf_map_lookup_elem(&observed, &key);

	if (seen) {
		seen->packets++;
		seen->bytes += skb->len;
	}
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
