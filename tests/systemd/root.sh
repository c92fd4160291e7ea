#!/bin/sh
# Makes the file tree of a machine (machine.py): this host's own below, memory above, and nothing of
# what this host has configured. Runs in a mount namespace of its own, which is all that holds it:
# when the last process in it ends, everything is gone.
#
# root.sh DIRECTORY [PATH ...]: the tree is DIRECTORY/root; PATHs of the host are in it, read-only.
set -eu
place=$1
shift

# What others unmount would stay mounted as long as it is in here, and their daemons with it.
awk '/ - fuse/ { print $5 }' /proc/self/mountinfo | tac | while read -r mountpoint; do
    umount --lazy "$(printf '%b' "$mountpoint")" || true
done

mount -t tmpfs -o mode=755 artstorefs-machine "$place"
mkdir "$place/upper" "$place/work" "$place/root" "$place/cgroup"
mount -t overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" machine "$place/root"
mount -t cgroup2 none "$place/cgroup"
cd "$place/root"

# Memory in place of what the host keeps there. What the daemon writes lies on no overlay: the kernel
# binds no file of a stacked filesystem to one of FUSE.
for path in tmp var/tmp var/log var/lib/systemd var/lib/artstorefs var/cache srv home root; do
    mkdir -p "$path"
    mount -t tmpfs -o mode=755 memory "$path"
done
chmod 1777 tmp var/tmp
chmod 700 root

# No unit that the host has enabled, and no generator but that of fstab.
rm -rf etc/systemd/system etc/systemd/user etc/systemd/system-generators etc/artstorefs etc/updatedb.conf
mkdir -p etc/systemd/system etc/systemd/user etc/systemd/system-generators etc/artstorefs \
    etc/systemd/journald.conf.d etc/systemd/logind.conf.d
for generator in lib/systemd/system-generators/*; do
    case $generator in
    */systemd-fstab-generator) ;;
    *) ln -s /dev/null "etc/systemd/system-generators/${generator##*/}" ;;
    esac
done
# What would look at the hardware, or change the kernel that the host uses too.
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udevd-kernel.socket \
    systemd-udevd-control.socket systemd-modules-load.service systemd-sysctl.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-random-seed.service \
    systemd-firstboot.service systemd-pcrphase.service systemd-pcrphase-sysinit.service \
    systemd-repart.service systemd-machine-id-commit.service systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service systemd-remount-fs.service kmod-static-nodes.service \
    dev-hugepages.mount sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    getty.target systemd-journal-flush.service systemd-ask-password-console.path \
    systemd-ask-password-wall.path initctl.socket systemd-initctl.socket; do
    ln -s /dev/null "etc/systemd/system/$unit"
done
ln -s /lib/systemd/system/multi-user.target etc/systemd/system/default.target
mkdir etc/systemd/system/multi-user.target.wants
ln -s /lib/systemd/system/remote-fs.target etc/systemd/system/multi-user.target.wants/
printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' > etc/systemd/journald.conf.d/machine.conf
tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
echo machine > etc/hostname
: > etc/fstab
: > etc/environment
echo 'PRUNEFS = "NFS nfs proc tmpfs fuse.sshfs"' > etc/updatedb.conf

for path in "$@"; do
    mkdir -p "./$path"
    mount --bind "$path" "./$path"
    mount -o remount,bind,ro "./$path"
done

echo made
cat > /dev/null # until whoever has started this closes its end
