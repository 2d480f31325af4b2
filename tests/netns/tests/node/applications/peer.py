"""peer.py PROTOCOL ADDRESS PORT: exchanges a word, and says who it was with, as the kernel tells it."""

import socket
import sys

protocol, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
with socket.socket(family, kind) as client:
    client.settimeout(5)
    if protocol == "udp-unconnected":
        client.sendto(b"word", (address, port))
        word, peer = client.recvfrom(4)
    else:
        client.connect((address, port))
        client.sendall(b"word")
        word, peer = client.recv(4), client.getpeername()
    assert word == b"word", word
    print(peer[0], peer[1])
