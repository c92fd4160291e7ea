"""The control socket (CONTROL.md): JSON-RPC 2.0, one object a line, on a Unix socket.

protocol    lines to requests, answers to lines; no socket, no trio
roles       who a client is, and what it may do
limits      how many clients, and how much work of the loop they get
models      parameters and results of the methods: the schema of the protocol
status      the same for `status`, which is most of it
methods     the table of the methods, and what each does
discover    `rpc.discover`: the table and the models as an OpenRPC document
jobs        long methods that go on without a client
checks      `fsck`, in a process of its own
shared      answers that are too much work for each client to have its own
server      clients, from accept to close
"""
