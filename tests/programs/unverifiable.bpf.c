// SPDX-License-Identifier: Apache-2.0
/* Reads a packet without a look at its end, which no verifier lets through. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

SEC("tc")
int unverifiable(struct __sk_buff *skb)
{
	const unsigned char *data = (void *)(long)skb->data;

	return data[40] == 6 ? TC_ACT_SHOT : TC_ACT_OK;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
