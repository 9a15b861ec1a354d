"""
Content of the store is checked; what is damaged is fetched again from where it came.
"""
