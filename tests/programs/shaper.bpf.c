// SPDX-License-Identifier: Apache-2.0
/* Two programs that share a map and a setting, as the book's chapter on chains has them. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u64);
} classified SEC(".maps");

/* Of so many packets one is marked; set by the loader. */
const volatile __u32 rate = 1;

SEC("tc")
int classify(struct __sk_buff *skb __attribute__((unused)))
{
	__u32 key = 0;
	__u64 *packets = bpf_map_lookup_elem(&classified, &key);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int mark(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 *packets = bpf_map_lookup_elem(&classified, &key);

	if (packets && rate && *packets % rate == 0)
		skb->mark = 1;
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
