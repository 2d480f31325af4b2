/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * The kernel's types that Netloom's programs use: the UAPI header's, and the few internal ones that CO-RE
 * relocates. Only fields that are read are declared; `preserve_access_index` finds the rest at load time.
 */
#ifndef NETLOOM_KERNEL_H
#define NETLOOM_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_ICMPV6 58
#define ECONNREFUSED 111
#define ETH_HLEN 14
#define ETH_P_IP 0x0800
#define ETH_P_ARP 0x0806
#define ETH_P_IPV6 0x86dd
#define TC_ACT_UNSPEC (-1)
#define TC_ACT_SHOT 2
#define TCX_NEXT -1
/* include/uapi/linux/if_packet.h */
#define PACKET_HOST 0
#define PACKET_OTHERHOST 3

#endif
