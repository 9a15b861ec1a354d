"""
What a power cut leaves of the store: system calls are recorded, and every state of the
disk that they allow is tried.
"""
