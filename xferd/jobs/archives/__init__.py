"""
Images imported out of archives, and exported as archives.
"""
