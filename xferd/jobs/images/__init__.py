"""
What images are made of: documents fetched and resolved, graphs of all that a
manifest names, names given, images published.
"""
