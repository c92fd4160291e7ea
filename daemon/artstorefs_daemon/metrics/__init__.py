"""Numbers for a monitor, and whether all is well (METRICS.md), where `[metrics]` switches them on.

    supervision   in the mount process: starts the metrics process, and starts it again
    process       the metrics process: all that follows
    source        asks the daemon's control socket for `status`
    families      `status` as metrics of Prometheus
    health        `status` and the table of mounts as a reason not to be well
    server        these over HTTP
    textfile      these in a file

They have a process of their own. Whoever asks over HTTP, however often and however slowly, has
the filesystem's loop answer two `status` a second at most; a loop that hangs is told of, by
somebody who does not hang with it; and the library of Prometheus and an HTTP server take no memory
where nobody wants them.
"""
