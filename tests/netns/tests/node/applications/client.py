"""client.py PROTOCOL ADDRESS PORT MODE: connects, exchanges a word, and says what ends the connection."""

import errno
import select
import socket
import sys
import time

protocol, address, port, mode = sys.argv[1:]
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
family = socket.AF_INET6 if ":" in address else socket.AF_INET


def connect():
    client = socket.socket(family, kind)
    client.connect((address, int(port)))
    client.send(b"word")
    assert client.recv(4) == b"word"
    return client


def say(text):
    print(text, flush=True)


client = connect()
say("connected")
try:
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
