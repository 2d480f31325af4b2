/* peer PROTOCOL ADDRESS PORT: exchanges a word, and says who it was with, as the kernel tells it. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

int main(int count, char **argument)
{
	struct timeval patience = { .tv_sec = 5 };
	struct sockaddr_storage peer = {}, to = {};
	struct sockaddr_in6 *v6 = (void *)&to;
	struct sockaddr_in *v4 = (void *)&to;
	socklen_t length = sizeof(peer), size;
	char text[INET6_ADDRSTRLEN], word[4];
	int is_v6, connects, fd;

	if (count != 4)
		return 2;
	is_v6 = strchr(argument[2], ':') != NULL;
	connects = strcmp(argument[1], "udp-unconnected");
	fd = socket(is_v6 ? AF_INET6 : AF_INET, strcmp(argument[1], "tcp") ? SOCK_DGRAM : SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	to.ss_family = is_v6 ? AF_INET6 : AF_INET;
	inet_pton(to.ss_family, argument[2], is_v6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr);
	v4->sin_port = htons(atoi(argument[3]));
	size = is_v6 ? sizeof(*v6) : sizeof(*v4);
	if (connects && connect(fd, (void *)&to, size))
		return fail("connect");
	if (sendto(fd, "word", 4, 0, connects ? NULL : (void *)&to, connects ? 0 : size) != 4)
		return fail("send");
	if (recvfrom(fd, word, 4, 0, (void *)&peer, &length) != 4 || memcmp(word, "word", 4))
		return fail("receive");
	length = sizeof(peer);
	if (connects && getpeername(fd, (void *)&peer, &length))
		return fail("getpeername");
	v4 = (void *)&peer;
	v6 = (void *)&peer;
	inet_ntop(peer.ss_family, is_v6 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr, text, sizeof(text));
	printf("%s %d\n", text, ntohs(v4->sin_port));
	return 0;
}
