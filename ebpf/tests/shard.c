/* SPDX-License-Identifier: Apache-2.0 */
/* Reads backends, one a line as 32 hexadecimal digits of address, port and protocol; prints their shards. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#undef AF_INET
#undef AF_INET6
#define IPPROTO_TCP IPPROTO_TCP_OF_BPF
#define IPPROTO_UDP IPPROTO_UDP_OF_BPF
#include "../src/bpf/shard.h"

int main(void)
{
	unsigned char bytes[16];
	unsigned int port, protocol;

	for (;;) {
		struct nl_addr address;

		for (int i = 0; i < 16; i++) {
			unsigned int byte;

			if (scanf("%2x", &byte) != 1)
				return 0;
			bytes[i] = byte;
		}
		if (scanf(" %u %u ", &port, &protocol) != 2)
			return 1;
		memcpy(&address, bytes, sizeof(address));
		printf("%u\n", nl_shard(&address, htons(port), protocol));
	}
}
