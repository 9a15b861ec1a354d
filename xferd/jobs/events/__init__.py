"""
What event streams send: the changes of jobs, layers, transfers and images.
"""
