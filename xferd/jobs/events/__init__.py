"""
Event streams, and the changes of jobs, layers, transfers and images that they send.
"""
