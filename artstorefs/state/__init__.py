"""What lies in the state directory: the index, the log of intents, the spool, the lock.

One process, one thread and one connection write here; the transfer process reads the database
through a read-only connection of its own. Nothing outside this folder writes SQL.
"""
