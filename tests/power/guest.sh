#!/bin/sh
# First process of the guest: filesystems, modules, and then guest.py. Its variables come from the
# kernel's command line: ASFS_PYTHON, ASFS_REPOSITORY, ASFS_ORDERS (a directory outside), and
# ASFS_RECORD=1 to record the writes of the first disk on the second one.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
(sleep 600; echo o >/proc/sysrq-trigger) & # nobody has cut the power: whoever started it is gone
mount -t sysfs sys /sys
mount -t tmpfs tmp /run
mkdir /run/disk /run/mount
modules=/usr/lib/uml/modules/$(uname -r)/kernel
insmod "$modules/fs/fuse/fuse.ko"
device=/dev/ubda
if [ -n "${ASFS_RECORD:-}" ]; then
    insmod "$modules/drivers/md/dm-mod.ko"
    insmod "$modules/drivers/md/dm-log-writes.ko"
    size=$(blockdev --getsz /dev/ubda)
    dmsetup create record --noudevsync --table "0 $size log-writes /dev/ubda /dev/ubdb"
    device=/dev/dm-0
fi
mount -t ext4 "$device" /run/disk || echo "guest: the disk cannot be mounted"
cd "$ASFS_REPOSITORY" && "$ASFS_PYTHON" -m tests.power.guest "$ASFS_ORDERS"
echo "guest: ended"
cd /
umount /run/disk
[ -z "${ASFS_RECORD:-}" ] || dmsetup remove record
echo o >/proc/sysrq-trigger
sleep 60
