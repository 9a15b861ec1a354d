"""
The memory of hosts: quotas, pauses, failures, throughput and features of
registries.  It knows numbers and time, nothing of HTTP, and keeps its records in
the journal.
"""
