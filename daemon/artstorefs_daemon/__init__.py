"""The processes of a mounted archive.

mount_daemon      starts, daemonizes, mounts, stops: the order of everything
service_manager   what systemd is told of it
mounting          by ourselves or by the stub, of which privileges starts one
mount_stub        root's part of a mount, a program of its own: THREATS.md
stub_client       the daemon's end of it, stub_protocol what they say to each other
mountpoint        mounts of this machine, which mount_table reads; mounted is one of them
service           the trio tasks of the mount process and what they share
operations        FUSE requests to filesystem calls, and errors to errnos: a thin adapter
fuse_library      pyfuse3, with what the fuse_*.c beside it add to it
transfer_link     the mount process's end: drains the log through the transfer process
transfer_process  the other end, a process of its own
restart_pause     before a process that has ended is started again
log_levels        how much each part of the two processes logs
reloading         the configuration, read again while it is mounted
control           the control socket (CONTROL.md)
metrics           a process of its own for monitors (METRICS.md), where it is wanted
check_process     its fsck, a process of its own
"""
