#!/usr/sbin/busybox sh
# The machine's first process: mounts what a node has, runs the command, hands back its output, its exit code and
# what it left in /out. Each of those has a virtio port of its own, so that kernel messages mix with none.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/ports
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tracefs tracefs /sys/kernel/tracing
# Attaching programs and changing maps of maps waits for grace periods, which are long in an idle emulated machine.
echo 1 > /sys/kernel/rcu_expedited
mount -t debugfs debugfs /sys/kernel/debug
mkdir -p /run/netns
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
hostname netloom-vm
/usr/sbin/ip link set lo up

if [ ! -e /vm/command ]; then
    . /vm/environment
    echo "A shell in kernel $(uname -r). \`exit\` ends the machine."
    setsid cttyhack /bin/sh -i
    reboot -f
fi

# Built in on some kernels, modules on others.
modprobe -aq virtio_pci virtio_console
# The ports come one by one after the driver.
until [ -e /dev/ports/stdout ] && [ -e /dev/ports/stderr ] && [ -e /dev/ports/files ] && [ -e /dev/ports/result ]; do
    for port in /sys/class/virtio-ports/*; do
        [ -s "$port/name" ] && ln -sf "/dev/${port##*/}" "/dev/ports/$(cat "$port/name")"
    done
done

cd /root
/vm/command </dev/null >/dev/ports/stdout 2>/dev/ports/stderr
code=$?
cd /out
if [ -n "$(ls -A)" ]; then
    tar -cf - . >/dev/ports/files
fi
echo "$code" >/dev/ports/result
reboot -f
