"""
The log as other programs read it: events as records, lines of JSON, and the journal of
systemd.
"""
