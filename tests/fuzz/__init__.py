"""
Harnesses that feed generated and damaged input to every reader of foreign
bytes.  C{python -m tests.fuzz --seconds 60} runs them.
"""
