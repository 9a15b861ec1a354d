"""
The catalog of the repositories that xferd serves: in memory, and recorded in the
journal's database.
"""
