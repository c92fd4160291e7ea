"""What carries things between the state directory and the elements.

schedule    when which intent is due: pure, time is an argument
jobs        what the mount process and the transfer process say to each other
placement   which element takes a new file: pure
documents   attr.json and node records from rows of the index
carrier     the work of the transfer process: hash, put, verify, remove
"""
