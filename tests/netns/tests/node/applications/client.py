"""client.py PROTOCOL ADDRESS PORT MODE: connects, exchanges a word, and says what ends the connection.

With the mode churn it connects, exchanges and closes until it gets SIGTERM; then it says the cookies of its sockets.
"""

import errno
import select
import signal
import socket
import struct
import sys
import time

protocol, address, port, mode = sys.argv[1:]
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
SO_COOKIE = 57
family = socket.AF_INET6 if ":" in address else socket.AF_INET


def connect():
    client = socket.socket(family, kind)
    client.connect((address, int(port)))
    client.send(b"word")
    assert client.recv(4) == b"word"
    return client


def say(text):
    print(text, flush=True)


def churn():
    cookies, stopped = [], []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    while not stopped:
        client = connect()
        cookies.append(struct.unpack("Q", client.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    say(" ".join(map(str, cookies)))


client = connect()
say("connected")
try:
    if mode == "churn":
        churn()
        sys.exit()
    if mode == "send":
        while True:
            client.send(b"more")
            time.sleep(0.01)
    if mode == "poll":
        poll = select.poll()
        poll.register(client, select.POLLIN)
        poll.poll()
    client.recv(4)
    say("EOF")
except OSError as error:
    say(errno.errorcode[error.errno])
if mode == "reconnect":
    client.close()
    connect()
    say("answered")
