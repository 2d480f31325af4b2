/*
 * client PROTOCOL ADDRESS PORT MODE: connects, exchanges a word, and says what ends the connection.
 *
 * With the mode churn it connects, exchanges and closes until it gets SIGTERM; then it says the cookies of its sockets.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int connect_to(int is_tcp, const char *address, int port)
{
	int is_v6 = strchr(address, ':') != NULL;
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(is_v6 ? AF_INET6 : AF_INET, is_tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
	char word[4];
	int failed;

	inet_pton(is_v6 ? AF_INET6 : AF_INET, address, is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr);
	failed = is_v6 ? connect(fd, (void *)&v6, sizeof(v6)) : connect(fd, (void *)&v4, sizeof(v4));
	if (failed || send(fd, "word", 4, 0) != 4 || recv(fd, word, 4, 0) != 4 || memcmp(word, "word", 4)) {
		perror("connect");
		exit(1);
	}
	return fd;
}

static void say(const char *text)
{
	puts(text);
	fflush(stdout);
}

static const char *name(int error)
{
	switch (error) {
	case ECONNABORTED:
		return "ECONNABORTED";
	case EDESTADDRREQ:
		return "EDESTADDRREQ";
	case EPIPE:
		return "EPIPE";
	default:
		return strerror(error);
	}
}

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	stopped = signal;
}

static void churn(int is_tcp, const char *address, int port)
{
	struct linger linger = { .l_onoff = 1 };
	unsigned long long cookie;
	socklen_t size = sizeof(cookie);
	int fd;

	while (!stopped) {
		fd = connect_to(is_tcp, address, port);
		getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size);
		printf("%llu ", cookie);
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(fd);
	}
	say("");
}

int main(int count, char **argument)
{
	int is_tcp, port, fd;
	const char *mode;
	ssize_t end;
	char word[4];

	if (count != 5)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	is_tcp = !strcmp(argument[1], "tcp");
	port = atoi(argument[3]);
	mode = argument[4];
	fd = connect_to(is_tcp, argument[2], port);
	say("connected");
	if (!strcmp(mode, "churn")) {
		signal(SIGTERM, stop);
		churn(is_tcp, argument[2], port);
		return 0;
	}
	if (!strcmp(mode, "send")) {
		while ((end = send(fd, "more", 4, 0)) > 0)
			usleep(10000);
	} else {
		struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

		if (!strcmp(mode, "poll"))
			poll(&poll_fd, 1, -1);
		end = recv(fd, word, 4, 0);
	}
	say(end < 0 ? name(errno) : "EOF");
	if (!strcmp(mode, "reconnect")) {
		close(fd);
		connect_to(is_tcp, argument[2], port);
		say("answered");
	}
	return 0;
}
