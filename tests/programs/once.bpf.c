// SPDX-License-Identifier: Apache-2.0
/* Counts how often each numbered UDP datagram meets it, and lets the next program decide. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define NUMBERS (1 << 18)

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NUMBERS);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, __u32);
	__type(value, __u32);
} met SEC(".maps");

/* Bytes in front of the IPv4 header; set by the loader. */
const volatile __u32 link_header = 14;
/* The datagrams' destination port. */
const volatile __u16 port = 7000;

SEC("tc")
int once(struct __sk_buff *skb)
{
	__u32 ip = link_header;
	__u8 protocol;
	__u16 destination;
	__u64 number;
	__u32 key;
	__u32 *times;

	if (skb->protocol != bpf_htons(0x0800) || bpf_skb_load_bytes(skb, ip + 9, &protocol, 1) || protocol != 17 ||
	    bpf_skb_load_bytes(skb, ip + 22, &destination, 2) || destination != bpf_htons(port) ||
	    bpf_skb_load_bytes(skb, ip + 28, &number, 8))
		return TC_ACT_UNSPEC;
	key = bpf_be64_to_cpu(number) % NUMBERS;
	times = bpf_map_lookup_elem(&met, &key);
	if (times)
		__sync_fetch_and_add(times, 1);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
