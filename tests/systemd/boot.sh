#!/bin/sh
# Boots the tree of root.sh, in fresh namespaces: becomes its process 1.
#
# boot.sh DIRECTORY
set -eu
cd "$1/root"
mount --make-rprivate /

mount -t proc proc proc
mount --bind proc/sys proc/sys # the kernel is the host's: its settings are not for the machine
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mknod -m 666 dev/fuse c 10 229
mknod -m 600 dev/autofs c 10 235
mknod -m 600 dev/console c 1 3
hostname machine

pivot_root . .
umount -l .
mount --make-rshared /
cd /
# Before other tests: the machine stands for one that has its processors for itself.
exec env -i container=artstorefs-test PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    nice -n -10 setpriv --bounding-set -sys_module,-sys_time,-sys_rawio /lib/systemd/systemd
